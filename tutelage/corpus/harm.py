"""Pornography, violence and hate, by how dense listed words are.

One listed word says nothing: physicians, courts and newspapers use most of them, and short ones stand inside names.
So entries of letters must be whole words, entries of Chinese characters must not be the ends of other words, words
that have a sober use weigh little, and a page is harmful by the share of it that is listed, and by how many different
entries there are. The lists are the user's own, or the short ones that come with the package.

A list cannot tell what is said in clean words; `tutelage.corpus.classifier` learns that from labelled examples.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import ahocorasick_rs
import pyarrow as pa

from tutelage.corpus.fluency import Model, pair
from tutelage.corpus.statistics import Statistics, measure
from tutelage.corpus.suspects import Beginnings, beginnings, suspects
from tutelage.errors import RecordError

RULE = "harmful"

SOBER = 0.2
"""The weight of a word that medicine, law, news and everyday speech use too."""

_SOBER = frozenset(
    """anal anus ass bareback bastard bitch bondage boob boobs breasts butt cialis clitoris cock coon dick dyke
    ejaculation erotic erotica escort escorts faggot fetish hooker incest intercourse kinky lolita masturbate
    masturbating masturbation negro nigger nipple nipples nude nudes nudity orgasm orgasms paedophile panties pecker
    pedophile penis piss porn porno pornography rape raping rapist rectum semen sex sexual sexuality sexually sexy shit
    slut snatch sodomize sodomy strip suck sucks swastika threesome tits topless twat vagina viagra vibrator vulva
    whore whores xx xxx
    阴道 阴茎 阴唇 阴蒂 阴户 阴毛 阴部 陰道 陰莖 陰戶 陰毛 陰唇 陰蒂 乳房 乳头 卵子 精液 月经 包皮 龟头 龜頭
    处女 性交 性爱 性愛 性欲 性感美女 性虐待 强奸 強姦 轮奸 輪姦 奸淫 姦淫 诱奸 迷奸 卖淫 嫖娼 嫖妓 妓女 娼妓
    手淫 射精 早泄 阳痿 性无能 肛门 口交 肛交 裸体 军妓 下贱 贱人 狗屁 他妈的 他媽的 妈的 媽的 你娘 交配 野鸡
    扒光 偷拍 色情 博彩 淫乱 乱伦 亂倫 援交 窑子 少妇 人妻""".split()
)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """From where on a page is harmful."""

    density: float = 0.03
    """The share of a page's characters that listed words make up, each by its weight."""
    different: int = 4
    """Different entries, of which at least one has full weight."""


@dataclass(frozen=True)
class Lexicon:
    """Entries and their weights; picklable."""

    entries: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Lexicon:
        """Lists of one entry a line. ``# ...`` is a comment; a weight between 0 and 1 may follow behind a tab, else
        words with a sober use weigh `SOBER` and all others 1. An entry of weight 0 is a guard: where it stands,
        shorter entries that begin in it are not looked for.

        Raises:
            RecordError: a file that cannot be read, holds no entry, or has a weight that is none.
        """
        entries: dict[str, float] = {}
        for path in paths:
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise RecordError(f"{path}: {error}: give a list of words in UTF-8, one a line") from None
            found = _entries(lines, str(path))
            if not found:
                raise RecordError(f"{path}: no entry: give a list of words, one a line")
            entries |= found
        return cls(entries)

    @classmethod
    def default(cls) -> Lexicon:
        """The short lists that come with the package, English and Chinese."""
        text = resources.files("tutelage.corpus").joinpath("harm.txt").read_text(encoding="utf-8")
        return cls(_entries(text.splitlines(), "harm.txt"))

    @cached_property
    def machine(self) -> Any:
        """The automaton over all entries."""
        return ahocorasick_rs.AhoCorasick(
            self.words, matchkind=ahocorasick_rs.MatchKind.LeftmostLongest, store_patterns=False
        )

    @cached_property
    def beginnings(self) -> Beginnings:
        """How entries begin, to find the texts that are worth a look."""
        return beginnings(self.entries)

    @cached_property
    def words(self) -> list[str]:
        """The entries, in order."""
        return sorted(self.entries)

    @cached_property
    def weights(self) -> list[float]:
        """Their weights, in that order."""
        return [self.entries[word] for word in self.words]

    def __getstate__(self) -> dict[str, Any]:
        return {"entries": self.entries}


@dataclass(frozen=True)
class Found:
    """What was found of a lexicon in one text."""

    density: float
    """The weighed share of its visible characters."""
    words: dict[str, int]
    """Entries and how often they are there."""
    full: int
    """Different entries of full weight."""


def judge(
    texts: pa.Array, lexicon: Lexicon, *, bounds: Bounds = Bounds(), known: Statistics | None = None,
    model: Model | None = None,
) -> list[tuple[str, str] | None]:  # fmt: skip
    """(rule, reason) for each harmful text of a column, else None.

    Args:
        texts: without nulls.
        lexicon: what is looked for.
        bounds: from where on.
        known: the column's statistics, if there are any already.
        model: of the corpus; with it, Chinese entries that cut through a word are told better.
    """
    visible = (known or measure(texts))["visible"]
    verdicts: list[tuple[str, str] | None] = [None] * len(texts)
    for place in suspects(texts, lexicon.beginnings, visible, bounds.density, bounds.different).tolist():
        found = look(texts[place].as_py(), lexicon, float(visible[place]), model)
        if found.density >= bounds.density and len(found.words) >= bounds.different and found.full:
            verdicts[place] = RULE, _reason(found)
    return verdicts


def look(text: str, lexicon: Lexicon, visible: float | None = None, model: Model | None = None) -> Found:
    """What of a lexicon stands in a text."""
    size = visible or len("".join(text.split()))  # of the text as it is: İ is two characters in lower case
    text = text.lower()
    words: dict[int, int] = {}
    weighed = 0.0
    for place, start, end in lexicon.machine.find_matches_as_indexes(text):
        if lexicon.weights[place] and _whole(text, start, end, model):
            words[place] = words.get(place, 0) + 1
            weighed += lexicon.weights[place] * (end - start)
    full = sum(lexicon.weights[place] > SOBER for place in words)
    return Found(weighed / max(size, 1), {lexicon.words[place]: count for place, count in words.items()}, full)


def measured(found: Sequence[bool], truth: Sequence[bool]) -> dict[str, float]:
    """How well a judge did on a labelled set: counts, precision and recall; nan: nothing to divide by."""
    both = sum(a and b for a, b in zip(found, truth, strict=True))
    said, true = sum(found), sum(truth)
    return {
        "documents": len(truth),
        "harmful": true,
        "found": both,
        "wrongly": said - both,
        "precision": round(both / said, 4) if said else float("nan"),
        "recall": round(both / true, 4) if true else float("nan"),
    }


def _entries(lines: Sequence[str], where: str) -> dict[str, float]:
    entries: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        entry, _, weight = line.partition("#")[0].rstrip().partition("\t")
        entry = unicodedata.normalize("NFKC", entry.strip()).lower()
        if not entry:
            continue
        try:
            value = float(weight) if weight.strip() else _weight(entry)
        except ValueError:
            raise RecordError(f"{where}:{number}: weight {weight!r}: give a number from 0 to 1") from None
        if not 0 <= value <= 1:
            raise RecordError(f"{where}:{number}: weight {weight!r}: give a number from 0 to 1")
        entries[entry] = value
    return entries


def _weight(entry: str) -> float:
    """One Chinese character, or up to two letters, is part of too many words to say much."""
    short = len(entry) == 1 if _is_cjk(entry[0]) else len(entry) <= 2
    return SOBER if short or entry in _SOBER else 1.0


def _whole(text: str, start: int, end: int, model: Model | None) -> bool:
    """Whether a match is a word of its own."""
    first, last = text[start], text[end - 1]
    before, after = text[start - 1 : start], text[end : end + 1]
    if not _is_cjk(first) and (first.isalnum() and ((before.isalnum() and not _is_cjk(before)) or before == "_")):
        return False
    if not _is_cjk(last) and (last.isalnum() and ((after.isalnum() and not _is_cjk(after)) or after == "_")):
        return False
    if model is None or not _is_cjk(first) or not _is_cjk(last):
        return True
    # A character that goes with its neighbour outside more often than with the one inside belongs to another word.
    inside = _together(model, text[start : start + 2]), _together(model, text[end - 2 : end])
    if end - start == 1:
        inside = (0, 0)
    return not (_together(model, before + first) > inside[0] or _together(model, last + after) > inside[1])


def _together(model: Model, two: str) -> int:
    """How often two Chinese characters stand side by side in the corpus."""
    if len(two) < 2 or not (_is_cjk(two[0]) and _is_cjk(two[1])):
        return 0
    return int(model.pairs()[pair(ord(two[0]), ord(two[1]))])


def _is_cjk(character: str) -> bool:
    return bool(character) and (
        "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character > "\U00020000"
    )


def _reason(found: Found) -> str:
    return f"{found.density:.0%} of it are listed words, {len(found.words)} different ones"
