"""What kind of text a document is, by what was counted of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import compiled
from tutelage.corpus.measures import Column

PROFILES = ("web", "manual", "poem", "book")
"""What kinds of text rules are made for."""
PROSE = ("web", "book")
"""Those of which rules ask what runs of words come again: counting these is half of the work."""
_WEB, _MANUAL, _POEM, _BOOK = range(4)


def profiles(table: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    """The profile of each document of a table of counts, as `tutelage.corpus.statistics` makes it.

    poem: short lines that end with marks and hold no code; book: prose of more than 1,500 words; web: prose of 100 to
    1,500; manual: what has code, lists, markup, addresses or names that prose has no place for, or is too short to
    tell. Only the rules that fit any text are asked of a manual.
    """
    found = np.zeros(len(table), np.int64)
    _profiles(table, found)
    return np.array(PROFILES)[found]


@compiled
def _profiles(table: Any, found: Any) -> None:
    for place in range(len(table)):
        found[place] = _profile(table[place])


@compiled
def is_prose(row: Any) -> Any:
    """Whether a document is prose."""
    found = _profile(row)
    return found in (_WEB, _BOOK)


@compiled
def _profile(row: Any) -> Any:
    lines = max(row[Column.lines], 1.0)
    letters, cjk, visible = row[Column.letters], row[Column.cjk], row[Column.visible]
    chinese = 3 * cjk >= letters
    verse = row[Column.lines] >= (2 if chinese else 4) and row[Column.line_characters] + cjk <= 60 * lines
    verse = verse and letters + cjk >= 0.7 * visible
    if chinese:
        verse = verse and row[Column.punctuated_lines] >= 0.4 * lines
    else:
        verse = verse and row[Column.brief_lines] <= 0.2 * lines
    if verse and row[Column.code_lines] + row[Column.hashes] + row[Column.braces] <= 0.05 * lines:
        return _POEM
    made = row[Column.code_lines] + row[Column.bullet_lines] + row[Column.indented_lines] + row[Column.hashes]
    technical = made > 0.1 * lines or row[Column.braces] > 0 or row[Column.longest_run] > 40
    technical = technical or row[Column.brief_lines] > 0.3 * lines or letters + cjk < 0.8 * visible
    if technical or row[Column.words] < 100:
        return _MANUAL
    return _BOOK if row[Column.words] > 1500 else _WEB
