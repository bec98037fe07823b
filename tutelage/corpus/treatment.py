"""Cleaning, masking and language of many texts at once: one compiled pass says what each needs, and few need much."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus import cleaning, languages, personal
from tutelage.corpus.digits import numbers
from tutelage.corpus.signs import Marks
from tutelage.corpus.traits import NUMBER, PERSONAL, UNCLEAN, traits


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
    if mask:
        numbered = np.flatnonzero(flags & NUMBER).tolist()
        runs = dict(zip(numbered, numbers([cleaned[place] for place in numbered]), strict=True))
        for place in np.flatnonzero(flags & PERSONAL).tolist():
            cleaned[place], masked[place] = personal.masked(cleaned[place], int(flags[place]), runs.get(place))
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
    """The texts cleaned. What was changed is looked at again, all at once: of texts that lost nothing but markup the
    lines that it was in."""
    cleaned = list(texts)
    changes: list[dict[str, int]] = [{}] * len(texts)
    flags = np.zeros(len(texts), np.uint32)
    counts = np.zeros((len(texts), 11), np.int64)
    asked = np.full(len(texts), UNCLEAN, np.uint32)
    changed = list(range(len(texts)))
    look, lines, before = list(texts), list[int](), list[str]()
    sizes: list[int] = []
    while changed:
        fresh = traits(look + before, looked_for())
        now, counted = fresh.flags[: len(changed)], fresh.counts[: len(changed)]
        inside = np.array(changed, np.int64)[lines]
        now[lines] |= flags[inside] & PERSONAL
        counted[lines] += counts[inside] - fresh.counts[len(changed) :]
        flags[changed], counts[changed] = now, counted
        sizes = sizes or fresh.sizes.tolist()
        needs = now & asked[changed]
        turn, changed, look, lines, before = changed, list[int](), list[str](), list[int](), list[str]()
        for row in np.flatnonzero(needs).tolist():
            place = turn[row]
            text = cleaned[place]
            places = fresh.places[fresh.begins[row] : fresh.begins[row + 1]].tolist()
            one, asked[place], edits = cleaning.once(text, int(needs[row]), changes[place], places)
            cleaned[place], changes[place] = one
            if not one.changes or one.text == text:
                continue
            if edits:
                was, became = cleaning.touched(text, edits)
                lines.append(len(changed))
                before.append(was)
                look.append(became)
            else:
                look.append(one.text)
            changed.append(place)
    return _Cleaned([text.strip("\n").rstrip() for text in cleaned], changes, flags, counts, sizes)


@cache
def looked_for() -> Marks:
    """What cleaning and masking look for in a text."""
    return Marks(cleaning.LEFTOVERS, personal.BEGINNINGS, cleaning.NAMES)
