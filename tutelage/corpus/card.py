"""The card of a corpus: what it is made of, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tutelage.corpus.python_docs import Package
from tutelage.corpus.tables import SHOWN, Refusal
from tutelage.records import Document

TOP = 30
SAMPLES = 5


def card(
    documents: Sequence[Document],
    refusals: Sequence[Refusal],
    packages: Iterable[Package],
    unread: dict[str, int],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """All counts, as JSON. Bytes are of UTF-8. ``refusals`` are in the order of the rules that were asked."""
    sources = _counts(documents, lambda document: document.source)
    return {
        "documents": len(documents),
        "bytes": _bytes(documents),
        "splits": _counts(documents, lambda document: document.split),
        "funnel": _funnel(documents, refusals),
        "licences": _counts(documents, lambda document: document.licence),
        "languages": _counts(documents, lambda document: document.language),
        "kinds": _counts(documents, lambda document: document.metadata.get("kind", "text")),
        "sources": sources[:TOP],
        "more_sources": max(0, len(sources) - TOP),
        "packages": [
            {"name": f"{one.name} {one.version}", "licence": one.licence, "stated": one.stated} for one in packages
        ],
        "unread": unread,
        "refused": _samples(refusals),
        "settings": settings,
    }


def page(card: dict[str, Any]) -> str:
    """The card as one HTML page that needs nothing else."""
    import jinja2

    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["megabytes"] = _megabytes
    environment.filters["thousands"] = _thousands
    return environment.get_template("card.html.jinja").render(card=card)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _thousands(count: int) -> str:
    return f"{count:,}"


def _bytes(documents: Iterable[Document]) -> int:
    return sum(len(document.text.encode("utf-8", "replace")) for document in documents)


def _counts(documents: Iterable[Document], key: Callable[[Document], str]) -> list[dict[str, Any]]:
    """Documents and bytes by a key, the most bytes first."""
    number: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for document in documents:
        name = key(document)
        number[name] += 1
        size[name] += len(document.text.encode("utf-8", "replace"))
    ordered = sorted(number, key=lambda name: (-size[name], name))
    return [{"name": name, "documents": number[name], "bytes": size[name]} for name in ordered]


def _funnel(documents: Sequence[Document], refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    """Step by step: what a rule took, and what was left after it."""
    left = len(documents) + len(refusals)
    size = _bytes(documents) + _bytes(refusal.document for refusal in refusals)
    steps: list[dict[str, Any]] = [{"rule": "read", "documents": 0, "bytes": 0, "left": left, "bytes_left": size}]
    for rule in dict.fromkeys(refusal.rule for refusal in refusals):
        taken = [refusal.document for refusal in refusals if refusal.rule == rule]
        gone = _bytes(taken)
        left, size = left - len(taken), size - gone
        steps.append({"rule": rule, "documents": len(taken), "bytes": gone, "left": left, "bytes_left": size})
    return steps


def _samples(refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    """A few refusals of each rule, spread over the whole."""
    found: list[dict[str, Any]] = []
    for rule in dict.fromkeys(refusal.rule for refusal in refusals):
        those = [refusal for refusal in refusals if refusal.rule == rule]
        step = max(1, len(those) // SAMPLES)
        rows = [
            {
                "source": refusal.document.source,
                "name": refusal.document.metadata.get("name", ""),
                "reason": refusal.reason,
                "text": refusal.document.text[:SHOWN],
            }
            for refusal in those[::step][:SAMPLES]
        ]
        found.append({"rule": rule, "documents": len(those), "samples": rows})
    return found
