"""The card of a source: under which licence its text stands, who says so and where, and what its makers asked for.

A card is a YAML file beside the source: ``NAME.card.yaml`` for the file or folder NAME, or ``card.yaml`` in the folder.

    licence: CC-BY-4.0
    evidence: https://example.org/terms, section 3
    date: 2026-05-01
    origin: crawl
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict

from tutelage import settings
from tutelage.corpus import licences
from tutelage.corpus.licences import Gate
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document

Origin = Literal["", "own", "crawl", "human", "teacher"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a source's terms."""

    licence: str = ""
    """SPDX expression, or ``own``; a row's own comes first."""
    evidence: str = ""
    """Where that is written: an address, a file, a contract."""
    date: str = ""
    """When it was looked up, as YYYY-MM-DD."""
    origin: Origin = ""
    """``own`` text, a ``crawl`` of pages, text that people (``human``) wrote for this, or a ``teacher`` model's."""
    teacher: str = ""
    """Which model wrote it."""
    terms: Literal["", "allow", "forbid"] = ""
    """Whether the teacher's terms allow another model to be trained on its output."""
    gate: Literal["", "allow", "refuse", "ask"] = ""
    """A decision for the whole source, made by a person: ``allow`` where the licence is not one of the open ones."""
    note: str = ""
    """Anything else worth keeping, such as whom to name."""

    __pydantic_config__ = ConfigDict(extra="forbid")


def card_of(path: Path) -> Card | None:
    """The card that lies beside a source, if there is one.

    Raises:
        RecordError: it cannot be read, with what is wrong.
    """
    beside = [path.with_name(path.name + ending) for ending in (".card.yaml", ".card.yml")]
    inside = [path / "card.yaml", path / "card.yml"] if path.is_dir() else []
    file = next((file for file in (*beside, *inside) if file.is_file()), None)
    if file is None:
        return None
    try:
        values: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecordError(f"{file}: not YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(values, dict):
        raise RecordError(f"{file}: {type(values).__name__}: write licence, evidence, date and origin, one a line")
    try:
        return card(values, str(file))
    except SettingsError as error:
        raise RecordError(str(error)) from None


def card(values: dict[str, Any], where: str) -> Card:
    """A card from what stands in a file or a recipe.

    Raises:
        SettingsError: a field is unknown or wrong, or the licence is none.
    """
    plain = {key: str(value) if key == "date" else value for key, value in values.items()}
    checked = settings.check(Card, plain, where)
    if checked.licence:
        licences.check_names([licences.normal(checked.licence)], f"{where}: licence")
    if checked.origin == "teacher" and not checked.teacher:
        raise SettingsError(f"{where}: teacher: missing: name the model that wrote this text")
    return checked


def refused(document: Document, card: Card, gate: Gate) -> tuple[str, str] | None:
    """(rule, reason) why a document may not be used, or None."""
    if card.gate == "refuse":
        return "licence", "the card of its source says refuse"
    if reservation := document.metadata.get("reservation"):
        return "reserved", f"its site does not want it used: {reservation}"
    if card.origin == "teacher" and card.terms != "allow":
        why = "forbid it" if card.terms == "forbid" else "are not stated in the card"
        return "teacher_terms", f"the terms of {card.teacher or 'the teacher model'} {why}"
    answer, reason = gate.verdict(document.licence)
    if answer == "allow":
        return (
            ("licence_asked", "the card of its source says ask: set gate to allow or refuse")
            if card.gate == "ask"
            else None
        )
    # A card speaks for the licence that it states, not for another one that a document brings with it.
    if card.gate == "allow" and document.licence == licences.normal(card.licence) and "refuse_licences" not in reason:
        return None
    return ("licence_asked" if answer == "ask" else "licence"), reason


_ROBOTS = re.compile(rb"""<meta[^>]+name\s*=\s*["']?(?:robots|googlebot|gptbot|ccbot|ai)["']?[^>]*>""", re.IGNORECASE)
_TDM = re.compile(rb"""<meta[^>]+name\s*=\s*["']?tdm-reservation["']?[^>]*content\s*=\s*["']?\s*1""", re.IGNORECASE)
_PAID = re.compile(
    rb""""isAccessibleForFree"\s*:\s*"?(?:false|no)\b|article:content_tier["'][^>]*content\s*=\s*["'](?:locked|metered)"""
    rb"""|class\s*=\s*["'](?:[^"']*\s)?(?:paywall|metered-?content|subscriber-only|premium-content)[\s"']""",
    re.IGNORECASE,
)
_NO_AI = re.compile(rb"\b(?:noai|noimageai|notrain)\b", re.IGNORECASE)
_RIGHTS = re.compile(
    r"""<(?:a|link)\b[^>]*\brel\s*=\s*["']?[^"'>]*\blicense\b[^>]*>"""
    r"""|<meta\b[^>]*\b(?:name|property)\s*=\s*["']?(?:dc\.rights|dcterms\.(?:rights|license)|license|rights|copyright)\b[^>]*>""",
    re.IGNORECASE,
)
_VALUE = re.compile(r"""\b(?:href|content)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)
HEAD = 200_000
"""Characters of a page in which its marks are looked for."""


def reservation(page: str, header: str = "") -> str:
    """The mark by which a page's makers say that it is not to be used for training, or that it is sold; or nothing.

    header: the values of ``X-Robots-Tag`` and ``TDM-Reservation``, one a line.

    Source: TDM Reservation Protocol (W3C community group, 2024), section 5; schema.org ``isAccessibleForFree``.
    """
    start = page[:HEAD].encode("utf-8", "replace")
    said = header.encode("utf-8", "replace")
    for mark in (*(found[0] for found in _ROBOTS.finditer(start)), said):
        if word := _NO_AI.search(mark):
            return word[0].decode().lower()
    if _TDM.search(start) or re.search(rb"tdm-reservation:\s*1", said, re.IGNORECASE):
        return "tdm-reservation"
    return "paid content" if _PAID.search(start) else ""


def licence_of_page(page: str) -> str:
    """The licence that a page states of itself: a link marked ``rel=license``, or its rights in the head."""
    start = page[:HEAD] if "rights" in page or "license" in page else ""
    for tail in (start, page[-20_000:] if len(page) > HEAD and "license" in page[-20_000:] else ""):
        for mark in _RIGHTS.finditer(tail):
            if value := _VALUE.search(mark[0]):
                stated = value[1] or value[2] or value[3] or ""
                if found := licences.of_address(stated):
                    return found
                short = licences.normal(stated)
                if short in licences.OPEN and short != licences.OWN:
                    return short
    return licences.of_tag(page)


def licence_of_text(text: str) -> str:
    """The licence that a text states of itself: an SPDX tag, or ``license:`` in the front matter of Markdown."""
    if text.startswith("---"):
        front = text[3:4096].partition("\n---")[0]
        found = re.search(r"(?m)^licen[cs]e:[ \t]*['\"]?([^'\"#\n]+)", front)
        if found:
            return licences.normal(found[1].strip())
    return licences.of_tag(text) if text.find("SPDX-License-Identifier", 0, 4096) >= 0 else ""


def licence_beside(folder: Path, top: Path) -> tuple[str, str]:
    """(licence, name of the file) that the nearest licence file states, from a folder up to the source's own."""
    while True:
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if re.fullmatch(r"(?i)(licen[cs]e|copying|unlicense)(\.(txt|md|rst))?", file.name) and file.is_file():
                found = licences.of_file(file.read_bytes()[:20_000].decode("utf-8", "replace"))
                if found != licences.UNKNOWN:
                    return found, file.name
        if folder == top or folder == folder.parent or top not in folder.parents:
            return licences.UNKNOWN, ""
        folder = folder.parent
