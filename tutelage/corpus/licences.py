"""The licence gate: only text whose licence is known and open goes in.

A licence is an SPDX expression, ``Apache-2.0``, ``MIT OR GPL-3.0-only``. Where it is stated in another way, a
classifier, a short name, the address of a Creative Commons licence, the text of a licence file, it is translated; what
cannot be told for sure is "unknown", and unknown is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tutelage.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np

OWN = "own"
"""The user's own text: theirs to allow."""
UNKNOWN = "unknown"
PUBLIC_DOMAIN = "Public-Domain"
"""No licence of SPDX, but what archives of old books write."""

OPEN = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSL-1.0", "CC-BY-3.0", "CC-BY-4.0",
    "CC-BY-SA-3.0", "CC-BY-SA-4.0",
    "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "NCSA", "PostgreSQL", "PSF-2.0",
    "Python-2.0", "Unicode-3.0", "Unlicense", "W3C", "WTFPL", "X11", "Zlib", PUBLIC_DOMAIN, OWN,
})  # fmt: skip
"""What is allowed unless a recipe allows more."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "zlib/libpng License": "Zlib",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
}

SHORT_NAMES = {
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache-2": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "mit license": "MIT", "the mit license": "MIT", "expat": "MIT",
    "isc license": "ISC", "new bsd": "BSD-3-Clause", "new bsd license": "BSD-3-Clause", "modified bsd": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause", "bsd 3-clause license": "BSD-3-Clause", "3-clause bsd": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause", "bsd 2-clause": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause",
    "bsd-2": "BSD-2-Clause", "cc by": "CC-BY-4.0", "cc-by": "CC-BY-4.0", "cc by-sa": "CC-BY-SA-4.0",
    "public-domain": PUBLIC_DOMAIN,
    "psf": "PSF-2.0", "psf license": "PSF-2.0", "python software foundation license": "PSF-2.0", "psfl": "PSF-2.0",
    "mpl 2.0": "MPL-2.0", "mozilla public license 2.0": "MPL-2.0", "public domain": PUBLIC_DOMAIN, "cc0": "CC0-1.0",
}  # fmt: skip

_TOKEN = re.compile(r"\(|\)|[A-Za-z0-9][A-Za-z0-9.+-]*")
_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_COMMONS = re.compile(
    r"creativecommons\.org/(?:licenses/([a-z-]+)/([0-9]\.[0-9])|publicdomain/(zero|mark)/1\.0)", re.IGNORECASE
)
_CC_NAME = re.compile(r"cc[ -](by(?:[ -](?:nc|nd|sa))*)[ -]?v?([1-4]\.[0-9])?", re.IGNORECASE)
_TAG = re.compile(
    r"SPDX-License-Identifier:[ \t]*"
    r"(\(?[A-Za-z0-9][A-Za-z0-9.+-]*\)?(?:[ ]+(?:AND|OR|WITH)[ ]+\(?[A-Za-z0-9][A-Za-z0-9.+-]*\)?)*)"
)
_TEXTS = (
    ("Apache-2.0", "apache license version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("AGPL-3.0-only", "gnu affero general public license version 3"),
    ("LGPL-3.0-only", "gnu lesser general public license version 3"),
    ("LGPL-2.1-only", "gnu lesser general public license version 2.1"),
    ("GPL-3.0-only", "gnu general public license version 3"),
    ("GPL-2.0-only", "gnu general public license version 2"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    ("BSL-1.0", "boost software license - version 1.0"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software"),
)
"""Words near the beginning of licence files, each with its licence; the first that fits is meant."""
_CC_TITLE = re.compile(
    r"(?:creative commons )?attribution((?:-(?:noncommercial|noderivatives|noderivs|sharealike))*)"
    r" ([1-4]\.[0-9]) (?:international|unported|generic)"
)
_CC_PARTS = {"noncommercial": "NC", "noderivatives": "ND", "noderivs": "ND", "sharealike": "SA"}

Answer = Literal["allow", "refuse", "ask"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What may go in. What is named nowhere is refused; what is asked about waits for a person's answer."""

    allowed: frozenset[str] = OPEN
    refused: frozenset[str] = frozenset()
    """Refused even where a source's card says otherwise."""
    ask: frozenset[str] = frozenset()
    """Neither: a person has to say."""

    def verdict(self, licence: str) -> tuple[Answer, str]:
        """Whether a text under this licence goes in, and why not."""
        return _verdict(self, licence)


@lru_cache(maxsize=4096)
def _verdict(gate: Gate, licence: str) -> tuple[Answer, str]:
    named = {name.lower() for name in _TOKEN.findall(licence)}
    if not licence or licence == UNKNOWN:
        return "refuse", "its licence is unknown"
    if bad := named & {name.lower() for name in gate.refused}:
        return "refuse", f"{licence} is refused: {', '.join(sorted(bad))} stands in refuse_licences"
    reason = refusal(licence, gate.allowed)
    if reason and refusal(licence, gate.allowed | gate.ask) is None:
        return "ask", f"{licence} needs an answer: name it in allow_licences or in refuse_licences"
    return ("refuse", reason) if reason else ("allow", "")


def check_names(names: Collection[str], where: str) -> None:
    """Checks that each is a licence that there is.

    Raises:
        SettingsError: one is none, with the nearest that is.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    from tutelage.settings import nearest

    for name in names:
        if name in (OWN, PUBLIC_DOMAIN):
            continue
        try:
            canonicalize_license_expression(name)
        except InvalidLicenseExpression:
            known = sorted(
                {*OPEN, *CLASSIFIERS.values(), *(f"CC-BY{kind}-4.0" for kind in ("-SA", "-NC", "-ND", "-NC-SA"))}
            )
            raise SettingsError(f"{where}: {name!r} is no licence of SPDX: {nearest(name, known)}") from None


def copies(keys: np.ndarray, gated: np.ndarray) -> np.ndarray:
    """Which documents that passed the gate are copies of one that did not: whoever copies a text gains no right to it.

    keys: (documents,) or (documents, words) of whole numbers, equal where texts are equal.
    gated: (documents,) of bool, those that were refused.
    Gives (documents,) of bool.
    """
    import numpy as np

    rows = np.ascontiguousarray(keys.reshape(len(keys), -1))
    one = (
        rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        if rows.shape[1] > 1
        else rows.ravel()
    )
    return np.isin(one, one[gated]) & ~gated


@lru_cache(maxsize=4096)
@lru_cache(maxsize=4096)
def normal(stated: str) -> str:
    """The SPDX expression for a licence as people write it; what is no known name stays as it is, empty is unknown."""
    plain = " ".join(stated.split())
    if not plain or plain.lower() in (UNKNOWN, "none", "null", "n/a", "noassertion", "other", "see license"):
        return UNKNOWN
    if found := of_address(plain):
        return found
    if found := _CC_NAME.fullmatch(plain):
        return f"CC-{found[1].upper().replace(' ', '-')}-{found[2] or '4.0'}"
    return _short(plain) or plain


def of_address(text: str) -> str:
    """The licence that an address of Creative Commons names, or nothing."""
    found = _COMMONS.search(text)
    if not found:
        return ""
    if found[3]:
        return "CC0-1.0" if found[3].lower() == "zero" else PUBLIC_DOMAIN
    return f"CC-{found[1].upper()}-{found[2]}"


def of_tag(text: str) -> str:
    """What an ``SPDX-License-Identifier:`` in the first lines says, or nothing."""
    found = _TAG.search(text, 0, 4096)
    return " ".join(found[1].split()) if found else ""


def of_file(text: str) -> str:
    """Which licence a licence file is, or "unknown"."""
    tag = of_tag(text)
    plain = " ".join(text[:3000].lower().replace(",", "").replace("license (", "license ").split())
    if tag:
        return tag
    if title := _CC_TITLE.search(plain):
        parts = "".join(f"-{_CC_PARTS[part]}" for part in title[1].split("-") if part)
        return f"CC-BY{parts}-{title[2]}"
    for name, words in _TEXTS:
        if words.replace(",", "") in plain:
            return name
    return of_address(text[:3000]) or _bsd(text)


def both(one: str, other: str) -> str:
    """The expression for a text under two licences at once: both have to be allowed."""
    if not one or not other or one == other:
        return one or other
    if UNKNOWN in (one, other):
        return UNKNOWN
    return " AND ".join(f"({name})" if " OR " in name else name for name in dict.fromkeys((one, other)))


def refusal(licence: str, allowed: Collection[str]) -> str | None:
    """Why a text under this SPDX expression is refused, or None.

    Of ``A OR B`` one must be allowed, of ``A AND B`` both. An exception (``WITH``) only adds permission.
    """
    if not licence or licence == UNKNOWN:
        return "its licence is unknown"
    known = {name.lower() for name in allowed}
    try:
        fine, rest = _either(_TOKEN.findall(licence), known)
    except IndexError:
        fine, rest = False, []
    if rest or not fine:
        return f"{licence} is not allowed: if you may use it, name it in allow_licences"
    return None


def of_distribution(distribution: Distribution) -> tuple[str, str]:
    """(SPDX expression or "unknown", where it was stated) of an installed package."""
    metadata = distribution.metadata
    fields: dict[str, list[str]] = {
        name: [str(value) for value in metadata.get_all(name) or []]
        for name in ("License-Expression", "License", "Classifier")
    }
    return of_metadata(fields, lambda: _licence_text(distribution))


def of_metadata(fields: Mapping[str, Sequence[str]], text: object = "") -> tuple[str, str]:
    """The same from the fields of a package's metadata.

    ``text`` is the licence itself, or a function that reads it; it is asked for only to tell the kinds of BSD apart.
    """
    for expression in fields.get("License-Expression", ()):
        return expression.strip(), "License-Expression"
    stated = " ".join(fields.get("License", ())).strip()
    labels = [value.rpartition(" :: ")[2] for value in fields.get("Classifier", ()) if value.startswith("License :: ")]
    found = {CLASSIFIERS[label] for label in labels if label in CLASSIFIERS}
    precise = _short(stated)
    if precise:
        return precise, "License"
    if len(found) == 1 and set(labels) <= set(CLASSIFIERS):
        return found.pop(), "Classifier"
    if stated.lower() in ("bsd", "bsd license") or labels == ["BSD License"]:
        whole = stated if len(stated) > 200 else text() if callable(text) else text
        return _bsd(str(whole)), "licence file" if whole is not stated else "License"
    return UNKNOWN, "several classifiers" if found else "nowhere"


def _short(stated: str) -> str | None:
    if len(stated) > 80:
        return None
    plain = " ".join(stated.lower().split())
    if plain in SHORT_NAMES:
        return SHORT_NAMES[plain]
    known = {name.lower(): name for name in OPEN | set(CLASSIFIERS.values()) if name != OWN}
    if plain in known:
        return known[plain]
    if _EXPRESSION.fullmatch(stated) and " " in stated:
        return stated
    return None


def _bsd(text: str) -> str:
    """Which BSD licence a text is: the third clause forbids the use of names for endorsement."""
    plain = " ".join(text.lower().split())
    if "redistributions in binary form" not in plain and "redistributions of source code" not in plain:
        return UNKNOWN
    return "BSD-3-Clause" if "endorse or promote" in plain else "BSD-2-Clause"


def _licence_text(distribution: Distribution) -> str:
    for file in sorted(distribution.files or [], key=str):
        if re.match(r"(licen[cs]e|copying)", file.name, re.IGNORECASE) and ".dist-info" in str(file):
            path = Path(str(distribution.locate_file(file)))
            return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return ""


def _either(tokens: list[str], known: set[str]) -> tuple[bool, list[str]]:
    fine, tokens = _both(tokens, known)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _both(tokens[1:], known)
        fine = fine or other
    return fine, tokens


def _both(tokens: list[str], known: set[str]) -> tuple[bool, list[str]]:
    fine, tokens = _single(tokens, known)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _single(tokens[1:], known)
        fine = fine and other
    return fine, tokens


def _single(tokens: list[str], known: set[str]) -> tuple[bool, list[str]]:
    if tokens[0] == "(":
        fine, rest = _either(tokens[1:], known)
        return fine and rest[0] == ")", rest[1:]
    name, rest = tokens[0], tokens[1:]
    if rest and rest[0].upper() == "WITH":
        rest = rest[2:]
    return name.lower() in known, rest
