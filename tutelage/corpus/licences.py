"""The licence gate: only text whose licence is known and open goes in.

A licence is an SPDX expression, ``Apache-2.0``, ``MIT OR GPL-3.0-only``. Where a package states its licence in older
ways, a classifier or a short name, it is translated; what cannot be told for sure is "unknown", and unknown is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import Distribution
from pathlib import Path

OWN = "own"
"""The user's own text: theirs to allow."""
UNKNOWN = "unknown"

OPEN = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSL-1.0", "CC-BY-3.0", "CC-BY-4.0",
    "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "NCSA", "PostgreSQL", "PSF-2.0",
    "Python-2.0", "Unicode-3.0", "Unlicense", "W3C", "WTFPL", "X11", "Zlib", OWN,
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
    "psf": "PSF-2.0", "psf license": "PSF-2.0", "python software foundation license": "PSF-2.0", "psfl": "PSF-2.0",
    "mpl 2.0": "MPL-2.0", "mozilla public license 2.0": "MPL-2.0", "public domain": "Unlicense", "cc0": "CC0-1.0",
}  # fmt: skip

_TOKEN = re.compile(r"\(|\)|[A-Za-z0-9][A-Za-z0-9.+-]*")
_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")


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
