"""Cleaning, masking and language of many texts at once: one compiled pass says what each needs, and few need much."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus import cleaning, languages, personal
from tutelage.corpus.traits import BEYOND, PERSONAL, UNCLEAN, Marks, traits


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


def treat(texts: Sequence[str], mask: bool = True) -> list[Treated]:
    """The texts cleaned, with personal data masked if asked, each with its language.

    Gives what `cleaning.cleaned`, and of its text `personal.masked` and `languages.language`, give, but for long
    texts in several languages: here all of a text is counted, there a sample of it.
    """
    if not texts:
        return []
    cleaned, flags, counts = _cleaned(texts)
    nothing: dict[str, int] = {}
    found = [
        personal.masked(one.text, needs) if mask and needs & PERSONAL else (one.text, nothing)
        for one, needs in zip(cleaned, flags, strict=True)
    ]
    told = languages.languages([one.text for one in cleaned], counts)
    return [
        Treated(text, one.changes, masked, language, script)
        for one, (text, masked), (language, script) in zip(cleaned, found, told, strict=True)
    ]


def _cleaned(texts: Sequence[str]) -> tuple[list[cleaning.Cleaned], list[int], npt.NDArray[np.int64]]:
    """The texts cleaned, and the traits of what they have become. What was changed is looked at again, all at once."""
    known = traits(texts, _marks())
    flags, counts = known.flags.tolist(), known.counts
    found: list[cleaning.Cleaned] = []
    yet: dict[int, int] = {}
    for place, (text, needs) in enumerate(zip(texts, flags, strict=True)):
        one, more = cleaning.Cleaned(_trimmed(text), {}), 0
        if needs & (UNCLEAN | BEYOND):
            one, more = cleaning.once(text, needs & UNCLEAN, {})
        found.append(one)
        if more:
            yet[place] = more
    changed = [place for place, one in enumerate(found) if one.changes]
    while changed:
        fresh = traits([found[place].text for place in changed], _marks())
        counts[changed] = fresh.counts
        for place, needs in zip(changed, fresh.flags.tolist(), strict=True):
            flags[place] = needs
        turn, yet, changed = yet, dict[int, int](), list[int]()
        for place, asked in turn.items():
            if needs := flags[place] & asked:
                before = found[place]
                found[place], more = cleaning.once(before.text, needs & UNCLEAN, before.changes)
                if found[place].text != before.text:
                    changed.append(place)
                    if more:
                        yet[place] = more
    return found, flags, counts


def _trimmed(text: str) -> str:
    return text.strip("\n").rstrip()


@cache
def _marks() -> Marks:
    return Marks(cleaning.LEFTOVERS, personal.BEGINNINGS, cleaning.NAMES)
