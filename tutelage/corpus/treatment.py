"""Cleaning, masking and language of many texts at once: one compiled pass says what each needs, and few need much."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus import cleaning, languages, personal
from tutelage.corpus.signs import Marks
from tutelage.corpus.traits import PERSONAL, UNCLEAN, traits


class Treated(NamedTuple):
    """A text as it goes on."""

    text: str
    changes: dict[str, int]
    """What cleaning changed, by kind."""
    personal: dict[str, int]
    """What was masked, by kind."""
    language: str
    script: str
    """ "Hans" or "Hant" of Chinese."""
    given: int
    """Bytes of the text before."""


def treat(texts: Sequence[str], mask: bool = True) -> list[Treated]:
    """The texts cleaned, with personal data masked if asked, each with its language.

    Gives what `cleaning.cleaned`, and of its text `personal.masked` and `languages.language`, give, but for long
    texts in several languages: here all of a text is counted, there a sample of it.
    """
    if not texts:
        return []
    cleaned, changes, flags, counts, sizes = _cleaned(texts)
    told = languages.languages(cleaned, counts)
    masked: list[dict[str, int]] = [{}] * len(texts)
    for place in np.flatnonzero(flags & PERSONAL).tolist() if mask else ():
        cleaned[place], masked[place] = personal.masked(cleaned[place], int(flags[place]))
    return [
        Treated(text, change, personal_data, language, script, size)
        for text, change, personal_data, (language, script), size in zip(
            cleaned, changes, masked, told, sizes, strict=True
        )
    ]


class _Cleaned(NamedTuple):
    texts: list[str]
    changes: list[dict[str, int]]
    flags: npt.NDArray[np.uint32]
    """The traits of what they have become."""
    counts: npt.NDArray[np.int64]
    sizes: list[int]
    """Bytes of what they were."""


def _cleaned(texts: Sequence[str]) -> _Cleaned:
    """The texts cleaned. What was changed is looked at again, all at once."""
    cleaned = list(texts)
    changes: list[dict[str, int]] = [{}] * len(texts)
    flags = np.zeros(len(texts), np.uint32)
    counts = np.zeros((len(texts), 11), np.int64)
    asked = np.full(len(texts), UNCLEAN, np.uint32)
    changed = list(range(len(texts)))
    sizes: list[int] = []
    while changed:
        fresh = traits([cleaned[place] for place in changed], looked_for())
        flags[changed], counts[changed] = fresh.flags, fresh.counts
        sizes = sizes or fresh.sizes.tolist()
        needs = fresh.flags & asked[changed]
        turn, changed = changed, list[int]()
        for row in np.flatnonzero(needs).tolist():
            place = turn[row]
            before = cleaned[place]
            places = fresh.places[fresh.begins[row] : fresh.begins[row + 1]].tolist()
            one, asked[place] = cleaning.once(before, int(needs[row]), changes[place], places)
            cleaned[place], changes[place] = one
            if one.changes and one.text != before:
                changed.append(place)
    return _Cleaned([text.strip("\n").rstrip() for text in cleaned], changes, flags, counts, sizes)


@cache
def looked_for() -> Marks:
    """What cleaning and masking look for in a text."""
    return Marks(cleaning.LEFTOVERS, personal.BEGINNINGS, cleaning.NAMES)
