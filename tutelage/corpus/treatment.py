"""Cleaning, masking and language of many texts at once: one compiled pass says what each needs, and few need much."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

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
    known = traits(texts, _marks())
    flags = known.flags.tolist()
    cleaned = [
        cleaning.cleaned(text, needs & UNCLEAN) if needs & (UNCLEAN | BEYOND) else cleaning.Cleaned(_trimmed(text), {})
        for text, needs in zip(texts, flags, strict=True)
    ]
    changed = [place for place, one in enumerate(cleaned) if one.changes]
    counts = known.counts
    if changed:
        again = traits([cleaned[place].text for place in changed], _marks())
        counts[changed] = again.counts
        for place, needs in zip(changed, again.flags.tolist(), strict=True):
            flags[place] = needs
    nothing: dict[str, int] = {}
    found = [
        personal.masked(one.text) if mask and needs & PERSONAL else (one.text, nothing)
        for one, needs in zip(cleaned, flags, strict=True)
    ]
    told = languages.languages([one.text for one in cleaned], counts)
    return [
        Treated(text, one.changes, masked, language, script)
        for one, (text, masked), (language, script) in zip(cleaned, found, told, strict=True)
    ]


def _trimmed(text: str) -> str:
    return text.strip("\n").rstrip()


@cache
def _marks() -> Marks:
    return Marks(cleaning.LEFTOVERS, personal.BEGINNINGS, cleaning.NAMES)
