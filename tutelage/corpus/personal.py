"""Personal data masked: each piece becomes a mark with its class, ``<EMAIL>``, so that sentences stay whole.

Masked are mail addresses, telephone numbers of China, the United States and of international form, Chinese identity
numbers and payment cards whose check digits are right, public internet addresses, and keys that open something.
Candidates are found by what they cannot be without, an ``@`` or a run of digits, and only those are looked at closely.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from tutelage.corpus.traits import ADDRESS, COLONS, NUMBER, PERSONAL, SECRET

KINDS = ("EMAIL", "PHONE", "ID_NUMBER", "IP_ADDRESS", "CARD_NUMBER", "SECRET")

_BEFORE_AT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_+-])?\Z")
_AFTER_AT = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")
_NUMBER = re.compile(r"[0-9](?:[0-9]|[ .-](?=[0-9])){6,30}[Xx]?")
_RUN = re.compile(r"[0-9 .-]*")
_BRACKETED = re.compile(r"\([0-9]{2,4}\)[ -]?[0-9]{3,4}[ -]?[0-9]{4}(?![0-9])")
_MOBILE = re.compile(r"(?:(?:00|\+)?86[ -]?)?1[3-9][0-9](?:[0-9]{8}|[ -][0-9]{4}[ -][0-9]{4})")
_LANDLINE = re.compile(
    r"(?:\+86[ -]?|0)[1-9][0-9]{1,2}[ -][2-9][0-9]{6,7}|\(0[1-9][0-9]{1,2}\)[ -]?[2-9][0-9]{2,3}[ -]?[0-9]{4}"
)
_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\([2-9][0-9]{2}\)[ ]?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}")
_INTERNATIONAL = re.compile(r"\+[1-9][0-9]{0,2}(?:[ .()-]{0,2}[0-9]){7,12}")
_IDENTITY = re.compile(r"[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]")
_CARD = re.compile(r"(?:4|5[1-5]|2[2-7]|3[47]|6[025])[0-9]{1,3}(?:[ -]?[0-9]{4,6}){2,3}(?:[ -]?[0-9]{1,4})?")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")
_COLONS = re.compile(r":[0-9a-fA-F]{0,4}:[0-9a-fA-F]{0,4}:")
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){2,6}[0-9a-fA-F]{1,4}(?![\w:])")
_FORMS = (
    (_IPV4, "IP_ADDRESS"),
    (_IDENTITY, "ID_NUMBER"),
    (_CARD, "CARD_NUMBER"),
    *((pattern, "PHONE") for pattern in (_MOBILE, _LANDLINE, _AMERICAN, _INTERNATIONAL)),
)
_VERSION = re.compile(r"(?:version|ver|release|v|版本)[ :=\"'`]*$", re.IGNORECASE)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

SECRETS = {
    "AKIA": re.compile(r"(?<![A-Za-z0-9])AKIA[0-9A-Z]{16}(?![A-Za-z0-9])"),
    "ASIA": re.compile(r"(?<![A-Za-z0-9])ASIA[0-9A-Z]{16}(?![A-Za-z0-9])"),
    "LTAI": re.compile(r"(?<![A-Za-z0-9])LTAI[0-9A-Za-z]{12,22}(?![A-Za-z0-9])"),
    "AKID": re.compile(r"(?<![A-Za-z0-9])AKID[0-9A-Za-z]{32}(?![A-Za-z0-9])"),
    "AIza": re.compile(r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}"),
    "sk-": re.compile(r"(?<![A-Za-z0-9])sk-(?:[a-z]{2,8}-)*[A-Za-z0-9_]{20,}"),
    "sk_live_": re.compile(r"\bsk_live_[0-9A-Za-z]{16,}"),
    "ghp_": re.compile(r"\bghp_[A-Za-z0-9]{36}"),
    "gho_": re.compile(r"\bgho_[A-Za-z0-9]{36}"),
    "ghs_": re.compile(r"\bghs_[A-Za-z0-9]{36}"),
    "github_pat_": re.compile(r"\bgithub_pat_[A-Za-z0-9_]{50,}"),
    "glpat-": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "hf_": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "npm_": re.compile(r"\bnpm_[A-Za-z0-9]{36}"),
    "pypi-": re.compile(r"\bpypi-[A-Za-z0-9_-]{50,}"),
    "xox": re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{20,}"),
    "eyJ": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "PRIVATE KEY-----": re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.{40,8000}?-----END [A-Z ]*KEY-----"),
}  # fmt: skip
"""What a key's text holds, and the whole of it: the forms that their makers document."""


BEGINNINGS = frozenset(SECRETS) - {"PRIVATE KEY-----"} | {"BEGIN "}
"""How words begin that may be keys."""


@cache
def _secrets() -> Any:
    from ahocorasick_rs import AhoCorasick

    return AhoCorasick(list(SECRETS))


class Found(NamedTuple):
    """A piece of personal data."""

    start: int
    end: int
    kind: str


def masked(text: str, needs: int = PERSONAL, runs: Sequence[int] | None = None) -> tuple[str, dict[str, int]]:
    """The text with personal data masked, and how many pieces of each kind there were.

    Args:
        needs: those of its `traits` that say what may be there.
        runs: where there may be numbers, as `digits.numbers` tells it; else they are looked for everywhere.
    """
    found = find(text, needs, runs)
    if not found:
        return text, {}
    counts: dict[str, int] = {}
    parts: list[str] = []
    place = 0
    for piece in found:
        if piece.start < place:
            continue
        parts += [text[place : piece.start], f"<{piece.kind}>"]
        counts[piece.kind] = counts.get(piece.kind, 0) + 1
        place = piece.end
    return "".join([*parts, text[place:]]), counts


def find(text: str, needs: int = PERSONAL, runs: Sequence[int] | None = None) -> list[Found]:
    """The personal data in a text, in order; of two that overlap the first is meant. The arguments: see `masked`."""
    found: list[Found] = []
    if needs & ADDRESS and "@" in text:
        found += _addresses(text)
    if needs & SECRET:
        for holds in set(_secrets().find_matches_as_strings(text, overlapping=True)):
            found += [Found(*match.span(), "SECRET") for match in SECRETS[holds].finditer(text)]
    if needs & NUMBER:
        for first, last in _spans(text, runs):
            for match in _NUMBER.finditer(text, first, last):
                found += _numbers(text, *match.span())
        if "(" in text:
            for match in _BRACKETED.finditer(text):
                found += _number(text, *match.span())
    if needs & COLONS and _COLONS.search(text):
        found += [Found(*match.span(), "IP_ADDRESS") for match in _IPV6.finditer(text) if _is_public(match[0])]
    return sorted(found)


def _spans(text: str, runs: Sequence[int] | None) -> Iterator[tuple[int, int]]:
    """Where numbers are looked for: in runs, each with the letter that may end an identity number, or in all."""
    if runs is None:
        yield 0, len(text)
        return
    for start in runs:
        run = _RUN.match(text, start)
        yield start, run.end() + 1 if run else len(text)


def _addresses(text: str) -> list[Found]:
    found: list[Found] = []
    at = text.find("@")
    while at >= 0:
        after = _AFTER_AT.match(text, at + 1)
        if after:
            start = max(0, at - 64)
            before = _BEFORE_AT.search(text[start:at])
            # git@host:path names a server's account, and user:password@host an address of the web.
            if (
                before
                and not text.startswith(":", after.end())
                and text[start + before.start() - 1 : start + before.start()] not in ("/", ":")
            ):
                found.append(Found(start + before.start(), after.end(), "EMAIL"))
        at = text.find("@", at + 1)
    return found


def _numbers(text: str, start: int, end: int) -> list[Found]:
    """What is personal in a run of digits: the whole of it, or parts that spaces divide."""
    if text[start - 1 : start] == "+":
        start -= 1
    found = _number(text, start, end)
    if found or " " not in text[start:end]:
        return found
    for part in text[start:end].split(" "):
        found += _number(text, start, start + len(part))
        start += len(part) + 1
    return found


def _number(text: str, start: int, end: int) -> list[Found]:
    run = text[start:end]
    if _inside_word(text, start, end):
        return []
    for pattern, kind in _FORMS:
        if pattern.fullmatch(run) and _holds(text, start, run, kind, pattern):
            return [Found(start, end, kind)]
    return []


def _inside_word(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return (
        (before.isascii() and (before.isalnum() or before in tuple("_.-/=&%#$")))
        or (after.isascii() and (after.isalnum() or after in tuple("_/%=&")))
        or (after in (".", "-") and text[end + 1 : end + 2].isdigit())
    )  # fmt: skip


def _holds(text: str, start: int, run: str, kind: str, pattern: re.Pattern[str]) -> bool:
    """What a form alone cannot say: check digits, and numbers that are nobody's."""
    digits = "".join(filter(str.isdigit, run))
    if kind == "IP_ADDRESS":
        # Numbers of sections and versions look the same, but have one digit in most places.
        long = sum(len(part) > 1 for part in run.split("."))
        return long >= 2 and _is_public(run) and not _VERSION.search(text, max(0, start - 12), start)
    if kind == "ID_NUMBER":
        rest = sum(int(digit) * weight for digit, weight in zip(run[:17], _WEIGHTS, strict=True)) % 11
        return "10X98765432"[rest] == run[17].upper()
    if kind == "CARD_NUMBER":
        return len(digits) in (15, 16, 19) and _luhn(digits)
    if pattern is _MOBILE:
        value = int(digits[-11:])
        return value & (value - 1) != 0
    # A company's hotline is no person's.
    return not digits.startswith(("400", "800"))


def _luhn(digits: str) -> bool:
    """Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
