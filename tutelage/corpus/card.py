"""The card of a corpus: what it is made of, what was left out and why, and what is still in it.

Everything here follows from the sources and the recipe; how long it took is in the run's log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.corpus import plots, quality, settling, writing
from tutelage.corpus.facts import Facts
from tutelage.corpus.judging import Rules
from tutelage.corpus.pipeline import Made
from tutelage.corpus.rules import RULES
from tutelage.run import write_json
from tutelage.sentences import counted

TOP = 30
SAMPLES = 6
PASSAGES = 20
ITEMS = 200

ORDER = (
    "unreadable", "removed", "licence", "licence_asked", "reserved", "teacher_terms", *RULES, "generated", "harmful",
    "low_quality", "leak", "licence_copy", "exact_duplicate", "normalised_duplicate", "near_duplicate", "only_repeats",
)  # fmt: skip
"""The rules in the order in which they are asked, but for the two that need the model of letters."""


STEPS = {
    "unreadable": "unreadable", "removed": "removed", "licence": "licence", "licence_asked": "licence",
    "reserved": "licence", "teacher_terms": "licence", "harmful": "harmful", "leak": "gives tests away",
    "licence_copy": "forbidden copies", "exact_duplicate": "exact duplicates", "normalised_duplicate": "normalised",
    "near_duplicate": "near duplicates", "only_repeats": "only repeats", "gibberish": "unlikely text",
    "unlikely_characters": "unlikely text",
}  # fmt: skip
"""What a rule is drawn as; all others are rules of quality."""


def card(made: Made, rules: Rules, stated: dict[str, Any]) -> dict[str, Any]:
    """All that the card shows, as JSON. Bytes are of UTF-8."""
    facts = made.facts
    sources = _counts(facts, "sources", "read_sources")
    documents, size, characters = facts.tables.get("kept", {}).get("all", [0, 0, 0])
    return {
        "documents": documents,
        "bytes": size,
        "characters": characters,
        "splits": _counts(facts, "splits"),
        "funnel": _funnel(facts),
        "licences": _counts(facts, "licences", "read_licences"),
        "languages": _counts(facts, "languages", "read_languages"),
        "kinds": _counts(facts, "kinds"),
        "profiles": _counts(facts, "profiles"),
        "sources": sources[:TOP],
        "more_sources": max(0, len(sources) - TOP),
        "packages": made.told["packages"],
        "unread": made.told["unread"],
        "unreadable": [{"reason": reason, "count": row[0]} for reason, row in facts.rows("unreadable")[:TOP]],
        "lengths": _lengths(facts),
        "refused": _samples(facts, "refused", facts.tables.get("rules", {})),
        "borderline": _samples(facts, "borderline", facts.tables.get("borderline", {})),
        "kept": facts.shown("kept")[:SAMPLES],
        "changes": _kinds(facts, "changes"),
        "personal": _kinds(facts, "personal"),
        "passages": _passages(rules, facts),
        "stretches": _stretches(rules, facts),
        "duplicates": _duplicates(rules, facts),
        "contamination": _contamination(made),
        "quality": quality.card(
            rules.quality, {name: np.array(counts, np.int64) for name, counts in facts.histograms.items()}
        ),
        "settings": stated,
    }


def page(card: dict[str, Any]) -> str:
    """The card as one HTML page that needs nothing else."""
    import jinja2

    here = Path(__file__)
    folders = [here.parent / "templates", here.parents[1] / "templates"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    filters: dict[str, Any] = {
        "megabytes": _megabytes, "thousands": _thousands, "counted": counted, "words": _words, "percent": _percent,
    }  # fmt: skip
    environment.filters.update(filters)
    pictures = {
        "river": plots.river(card["funnel"][0]["left"], _steps(card["funnel"][1:])),
        "lengths": plots.columns(
            [(row["language"], row["documents"]) for row in card["lengths"]["languages"]],
            [plots.short(edge) for edge in card["lengths"]["edges"]], "Documents by length",
        ),
        "likeness": plots.columns(
            [("near duplicates", card["duplicates"]["likeness"]["documents"])],
            [f"{edge:.2g}" for edge in card["duplicates"]["likeness"]["edges"]], "Near duplicates by likeness",
        ),
        "rules": {row["rule"]: _rule_picture(row) for row in card["quality"]},
    }  # fmt: skip
    return environment.get_template("card.html.jinja").render(card=card, pictures=pictures)


def _steps(funnel: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """What goes at each step: of quality all rules together."""
    steps: dict[str, int] = {}
    for row in funnel:
        name = STEPS.get(row["rule"], "quality").replace("_", " ")
        steps[name] = steps.get(name, 0) + row["documents"]
    return list(steps.items())


def write(card: dict[str, Any], folder: Path) -> None:
    """Writes ``card.json`` and ``card.html``."""
    write_json(folder / "card.json", card)
    (folder / "card.html").write_text(page(card), encoding="utf-8")


def _counts(facts: Facts, table: str, read: str = "") -> list[dict[str, Any]]:
    """Documents and bytes by a key, the most bytes first; with what was read of each, if that is known."""
    kept, found = facts.tables.get(table, {}), facts.tables.get(read, {})
    rows: list[dict[str, Any]] = []
    for name in kept.keys() | found.keys():
        documents, size = kept.get(name, [0, 0])[:2]
        row: dict[str, Any] = {"name": name, "documents": documents, "bytes": size}
        if read:
            row |= {"read": found.get(name, [0, 0])[0], "bytes_read": found.get(name, [0, 0])[1]}
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["bytes"], -row.get("bytes_read", 0), row["name"]))


def _funnel(facts: Facts) -> list[dict[str, Any]]:
    """Step by step: what a rule took, and what was left after it."""
    taken = facts.tables.get("rules", {})
    read, size = facts.tables.get("read", {}).get("all", [0, 0])
    left = read + taken.get("unreadable", [0, 0])[0]
    steps: list[dict[str, Any]] = [{"rule": "read", "documents": 0, "bytes": 0, "left": left, "bytes_left": size}]
    for rule in _ordered(taken):
        documents, gone = taken[rule]
        left, size = left - documents, size - gone
        steps.append({"rule": rule, "documents": documents, "bytes": gone, "left": left, "bytes_left": size})
    return steps


def _ordered(rules: Iterable[str]) -> list[str]:
    return sorted(rules, key=lambda rule: (ORDER.index(rule) if rule in ORDER else len(ORDER), rule))


def _lengths(facts: Facts) -> dict[str, Any]:
    found = {name.partition("\t")[2]: row for name, row in facts.histograms.items() if name.startswith("length\t")}
    ordered = sorted(found, key=lambda name: (-sum(found[name]), name))
    shown = {name: found[name] for name in ordered[:5]}
    if ordered[5:]:
        shown["others"] = [sum(column) for column in zip(*(found[name] for name in ordered[5:]), strict=True)]
    whole = [sum(column) for column in zip(*found.values(), strict=True)] or [0]
    used = [place for place, count in enumerate(whole) if count] or [0]
    first, last = used[0], used[-1] + 1
    return {
        "edges": [2**place // 2 for place in range(first, last + 1)],
        "languages": [{"language": name, "documents": row[first:last]} for name, row in shown.items()],
    }


def _samples(facts: Facts, kind: str, counts: dict[str, list[int]]) -> list[dict[str, Any]]:
    return [
        {"rule": rule, "documents": counts[rule][0], "samples": facts.shown(f"{kind}\t{rule}")[:SAMPLES]}
        for rule in _ordered(counts)
    ]


def _kinds(facts: Facts, table: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "documents": row[0], "count": row[1]} for kind, row in facts.rows(table)]


def _passages(rules: Rules, facts: Facts) -> dict[str, Any]:
    """What many documents share: how much of it went, and the passages that most have."""
    removed = {name: facts.tables.get("repeated", {}).get(name, [0, 0]) for name in ("same", "edited")}
    told: dict[str, Any] = {
        "removed": removed["same"][0],
        "removed_edited": removed["edited"][0],
        "bytes": removed["same"][1] + removed["edited"][1],
        "documents": facts.tables.get("repeated_documents", {}).get("all", [0])[0],
        "different": 0,
        "top": [],
    }
    if rules.paragraphs:
        found, said = settling.repeated(rules.bench), writing.said(rules)
        often = np.lexsort((found.keys, -found.counts))[:PASSAGES].tolist()
        told["different"] = len(found.keys)
        told["top"] = [
            {"documents": int(found.counts[place]), "text": said.get(int(found.keys[place]), "")} for place in often
        ]
    return told


def _stretches(rules: Rules, facts: Facts) -> dict[str, Any]:
    """The long stretches that went because an earlier document has them."""
    removed, size = facts.tables.get("stretches", {}).get("all", [0, 0])
    return {
        "units": rules.stretches,
        "removed": removed,
        "bytes": size,
        "documents": facts.tables.get("stretch_documents", {}).get("all", [0])[0],
        "samples": facts.shown("stretches")[:SAMPLES],
    }


def _duplicates(rules: Rules, facts: Facts) -> dict[str, Any]:
    sizes = sorted((int(size), row[0]) for size, row in facts.tables.get("cluster_sizes", {}).items())
    likeness = facts.histograms.get("likeness", [0])
    first = next((place for place, count in enumerate(likeness) if count), 0)
    return {
        "sizes": [{"documents": size, "clusters": count} for size, count in sizes],
        "clusters": settling.clusters(rules.bench),
        "likeness": {
            "edges": [round(place / len(likeness), 3) for place in range(first, len(likeness) + 1)],
            "documents": likeness[first:],
        },
    }


def _contamination(made: Made) -> dict[str, Any]:
    """For each test set how many of its items were given away, and by how many documents."""
    facts = made.facts
    hit: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for key, (documents,) in facts.rows("leaks"):
        test, _, item = key.partition("\t")
        hit[test] = hit.get(test, 0) + 1
        rows.append({"test": test, "item": item, "documents": documents})
    return {
        "tests": [{"test": test, "items": items, "given_away": hit.get(test, 0)} for test, items in made.tests.items()],
        "items": rows[:ITEMS],
        "samples": facts.shown("leaks"),
    }


def _rule_picture(row: dict[str, Any]) -> str:
    """The histogram of what a rule measures, with its bounds."""
    counts: Sequence[int] = row.get("documents", ())
    edges: Sequence[float] = row.get("edges", ())
    if not any(counts):
        return ""
    bounds = {bound for pair in row["bounds"].values() for bound in pair if bound is not None}
    used = [place for place, count in enumerate(counts) if count]
    places = [float(np.interp(bound, edges, np.arange(len(edges)))) for bound in bounds]
    first = max(0, min([used[0], *(int(place) - 1 for place in places)]))
    last = min(len(counts), max([used[-1] + 1, *(int(place) + 2 for place in places)]))
    return plots.histogram(counts[first:last], [(place - first) / (last - first) for place in places], row["rule"])


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _thousands(count: int) -> str:
    return f"{count:,}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
