"""Rules of quality, family by family, each with its paper and the bounds that were published.

A rule is a function from what was measured (`tutelage.corpus.statistics`, `tutelage.corpus.fluency`) to one number a
document, and bounds for that number. ``@rule`` puts it into `RULES`. A rule is asked of the scripts and the profiles
that it was made for: rules for English web prose would refuse nearly every manual and poem.

English rules count words; a Chinese character counts as one (`tutelage.corpus.statistics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from tutelage.corpus.characters import Floats
from tutelage.corpus.looks import PROFILES
from tutelage.corpus.statistics import Statistics

Mask = npt.NDArray[np.bool_]

Script = Literal["any", "latin", "cjk", "english"]
Bounds = tuple[float | None, float | None]
"""The least and the most that is wanted; None: no bound on that side."""

GOPHER = "Rae et al. 2021, arXiv 2112.11446, appendix A.1"
C4 = "Raffel et al. 2020, JMLR 21(140), section 2.2"
FINEWEB = "Penedo et al. 2024, arXiv 2406.17557, section 3.5"
REFINEDWEB = "Penedo et al. 2023, arXiv 2306.01116, appendix G.2"
CHINESEWEBTEXT = "Chen et al. 2023, arXiv 2311.01149, section 3.2"
CCNET = "Wenzek et al. 2020, arXiv 1911.00359"
OURS = "ours"


@dataclass(frozen=True)
class Measured:
    """What the rules look at: statistics, and bits a letter and a Chinese character (nan where there is no model)."""

    known: Statistics
    bits: Floats

    def __getitem__(self, name: str) -> Floats:
        return self.known[name]

    def share(self, part: str, whole: str) -> Floats:
        """One statistic over another."""
        return self.known.share(part, whole)

    @property
    def cjk(self) -> Mask:
        """Where Chinese, Japanese or Korean prevails; one such character says about as much as three letters."""
        return 3 * self["cjk"] >= self["letters"]


Measure = Callable[[Measured], Floats]


@dataclass(frozen=True)
class Rule:
    """One number a document, and between which bounds it must be."""

    name: str
    family: str
    paper: str
    measure: Measure
    bounds: Bounds
    told: str
    """What the number is, as a reason says it: ``{value}`` and words."""
    script: Script = "any"
    profiles: tuple[str, ...] = PROFILES
    """Where it is asked."""
    others: Mapping[str, Bounds] = field(default_factory=dict[str, Bounds])
    """Other bounds in some profiles."""

    def asked_of(self, cjk: Mask, english: Mask) -> Mask:
        """The documents in whose script, or language, it is asked."""
        if self.script == "any":
            return np.ones(len(cjk), bool)
        return english & ~cjk if self.script == "english" else cjk == (self.script == "cjk")

    def within(self, profile: str) -> Bounds:
        """The bounds for a profile."""
        return self.others.get(profile, self.bounds)

    def reason(self, value: float, bounds: Bounds) -> str:
        """Why a value is refused."""
        least, most = bounds
        percent = "%" in self.told
        wanted = f"at least {_plain(least, percent)}" if least is not None and value < least else (
            f"at most {_plain(most or 0, percent)}"
        )  # fmt: skip
        return f"{self.told.format(value=value)}, {wanted} wanted"


RULES: dict[str, Rule] = {}
"""All rules by name, in the order in which they are asked."""


def rule(
    family: str, paper: str, told: str, *, least: float | None = None, most: float | None = None,
    script: Script = "any", profiles: tuple[str, ...] = PROFILES, **others: Bounds,
) -> Callable[[Measure], Measure]:  # fmt: skip
    """Makes a rule of a function and names it after that."""

    def add(measure: Measure) -> Measure:
        name = measure.__name__
        RULES[name] = Rule(name, family, paper, measure, (least, most), told, script, profiles, others)
        return measure

    return add


def _plain(value: float, percent: bool) -> str:
    return f"{100 * value:g}%" if percent else f"{value:,g}"


# ours: what no kind of text should be


@rule("ours", OURS, "{value:,.0f} characters", least=40)
def too_short(m: Measured) -> Floats:
    """Characters; a Chinese one counts as two."""
    return m["characters"] + m["cjk"]


@rule("ours", OURS, "{value:.1%} broken characters", most=0.02)
def not_text(m: Measured) -> Floats:
    """Characters of text read in the wrong encoding: replacements, private and control characters, and what UTF-8
    becomes in a one-byte encoding, where a letter that was a first byte stands before one that was not."""
    return m.share("broken", "visible")


@rule("ours", OURS, "{value:.0%} letters", least=0.3)
def mostly_symbols(m: Measured) -> Floats:
    """Letters of any script among the characters that are not space."""
    return (m["letters"] + m["cjk"]) / np.maximum(m["visible"], 1)


@rule("ours", OURS, "a run without a space makes up {value:.0%}", most=0.5)
def unbroken(m: Measured) -> Floats:
    """The share of the longest run of visible ASCII, where it is longer than any word and most addresses (300):
    encoded data."""
    return np.where(m["longest_run"] > 300, m["longest_run"] / np.maximum(m["visible"], 1), 0)


@rule("ours", OURS, "{value:.0%} are repeated lines", most=0.7)
def repeated_lines(m: Measured) -> Floats:
    """Characters in lines that were there before. Tables and code of a manual repeat some."""
    return m.share("repeated_line_characters", "line_characters")


@rule("ours", OURS, "words repeat: {value:.2f} different ones over the root of all", least=1.2)
def repeated_words(m: Measured) -> Floats:
    """Different words over the square root of all words, in texts of 50 words or more: the same few words again and
    again, which search engines were to be misled by. Prose has 5 to 25, a table of a manual 2.

    Source: Guiraud 1954, the root type-token ratio."""
    return np.where(m["words"] >= 50, m["distinct_words"] / np.sqrt(np.maximum(m["words"], 1)), np.inf)


@rule("ours", OURS, "{value:.0%} of the lines are of menus", most=0.75)
def navigation(m: Measured) -> Floats:
    """Lines of up to three words that end without a mark, in a text of ten lines where at least three lines in ten
    are repeated: the frame of a page without the page."""
    framed = (m["lines"] >= 10) & (m.share("repeated_lines", "lines") >= 0.3)
    return np.where(framed, m.share("brief_lines", "lines"), 0)


@rule("ours", CCNET, "{value:.1f} bits a letter", most=5.8)
def gibberish(m: Measured) -> Floats:
    """Bits a letter under the model of the corpus, where letters prevail. Letters at random have 6.4; a European
    language that the corpus has none of, 4."""
    return m.bits[:, 0]


@rule("ours", CCNET, "{value:.1f} bits a Chinese character", most=10.8)
def unlikely_characters(m: Measured) -> Floats:
    """Bits a Chinese character under the model of the corpus, where they prevail. Characters at random, or of an
    encoding misread, have 11 to 14; poems 7 to 9."""
    return m.bits[:, 1]


# Gopher: quality


@rule("gopher", GOPHER, "{value:,.0f} words", least=50, most=100_000, profiles=("web", "book"), book=(50, None))
def gopher_words(m: Measured) -> Floats:
    """Words."""
    return m["words"]


@rule("gopher", GOPHER, "words of {value:.1f} letters", least=3, most=10, script="latin", profiles=("web", "book"))
def gopher_word_length(m: Measured) -> Floats:
    """The mean length of a word."""
    return m.share("plain_characters", "plain_words")


@rule("gopher", GOPHER, "{value:.2f} hashes or ellipses a word", most=0.1, profiles=("web", "book"))
def gopher_symbols(m: Measured) -> Floats:
    """Hash signs or ellipses, whichever are more, over words."""
    return np.maximum(m["hashes"], m["ellipses"]) / np.maximum(m["words"], 1)


@rule("gopher", GOPHER, "{value:.0%} of the lines begin with a bullet", most=0.9, profiles=("web", "book"))
def gopher_bullets(m: Measured) -> Floats:
    """Lines that begin with a bullet, a hyphen or an asterisk."""
    return m.share("bullet_lines", "lines")


@rule("gopher", GOPHER, "{value:.0%} of the lines end in an ellipsis", most=0.3, profiles=("web", "book"))
def gopher_ellipses(m: Measured) -> Floats:
    """Lines that end in an ellipsis."""
    return m.share("ellipsis_lines", "lines")


@rule("gopher", GOPHER, "{value:.0%} of the words have a letter", least=0.8, script="latin", profiles=("web", "book"))
def gopher_letters(m: Measured) -> Floats:
    """Words with at least one letter."""
    return m.share("letter_words", "plain_words")


@rule("gopher", GOPHER, "{value:.0f} stop words", least=2, script="english", profiles=("web", "book"))
def gopher_stop_words(m: Measured) -> Floats:
    """How many of the, be, to, of, and, that, have, with there are."""
    return m["stop_words"]


# Gopher: repetition


@rule("gopher", GOPHER, "{value:.0%} are repeated lines", most=0.3, profiles=("web", "book"))
def gopher_repeated_lines(m: Measured) -> Floats:
    """Lines that were there before."""
    return m.share("repeated_lines", "lines")


@rule("gopher", GOPHER, "{value:.0%} are repeated paragraphs", most=0.3, profiles=("web", "book"))
def gopher_repeated_paragraphs(m: Measured) -> Floats:
    """Paragraphs that were there before."""
    return m.share("repeated_paragraphs", "paragraphs")


@rule("gopher", GOPHER, "{value:.0%} of the characters are in repeated lines", most=0.2, profiles=("web", "book"))
def gopher_repeated_line_characters(m: Measured) -> Floats:
    """Characters in lines that were there before."""
    return m.share("repeated_line_characters", "line_characters")


@rule("gopher", GOPHER, "{value:.0%} of the characters are in repeated paragraphs", most=0.2, profiles=("web", "book"))
def gopher_repeated_paragraph_characters(m: Measured) -> Floats:
    """Characters in paragraphs that were there before."""
    return m.share("repeated_paragraph_characters", "line_characters")


@rule("gopher", GOPHER, "{value:.0%} is one pair of words", most=0.2, profiles=("web", "book"))
def gopher_top_2(m: Measured) -> Floats:
    """Characters of the pair of words that is there most often."""
    return np.minimum(m.share("top_2", "word_characters"), 1)


@rule("gopher", GOPHER, "{value:.0%} is one run of three words", most=0.18, profiles=("web", "book"))
def gopher_top_3(m: Measured) -> Floats:
    """Characters of the run of three words that is there most often."""
    return np.minimum(m.share("top_3", "word_characters"), 1)


@rule("gopher", GOPHER, "{value:.0%} is one run of four words", most=0.16, profiles=("web", "book"))
def gopher_top_4(m: Measured) -> Floats:
    """Characters of the run of four words that is there most often."""
    return np.minimum(m.share("top_4", "word_characters"), 1)


def _repeated(length: int, most: float) -> None:
    """Characters in runs of so many words that were there before; a run within a run counts once."""

    def measure(m: Measured) -> Floats:
        return m.share(f"repeated_{length}", "word_characters")

    measure.__name__ = f"gopher_repeated_{length}"
    measure.__doc__ = _repeated.__doc__
    told = f"{{value:.0%}} is in repeated runs of {length} words"
    rule("gopher", GOPHER, told, most=most, script="latin", profiles=("web", "book"))(measure)


for _length, _most in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
    _repeated(_length, _most)


# C4


@rule("c4", C4, "{value:.0f} sentences", least=3, profiles=("web", "book"))
def c4_sentences(m: Measured) -> Floats:
    """Sentences."""
    return m["sentences"]


@rule("c4", C4, "lorem ipsum", most=0, profiles=PROFILES)
def c4_lorem_ipsum(m: Measured) -> Floats:
    """1 where the words lorem and ipsum stand in the text."""
    return np.where(m["words"] < 400, m["lorem"], 0)


@rule("c4", C4, "{value:.0f} curly brackets", most=0, profiles=("web",))
def c4_brackets(m: Measured) -> Floats:
    """Curly brackets: code, where prose is wanted."""
    return m["braces"]


# FineWeb


@rule("fineweb", FINEWEB, "{value:.0%} of the lines end with a mark", least=0.12, profiles=("web",))
def fineweb_punctuation(m: Measured) -> Floats:
    """Lines that end with a mark of punctuation that ends a sentence."""
    return m.share("punctuated_lines", "lines")


@rule("fineweb", FINEWEB, "{value:.0%} of the characters are in repeated lines", most=0.1, profiles=("web",))
def fineweb_repeated_lines(m: Measured) -> Floats:
    """Characters in lines that were there before."""
    return m.share("repeated_line_characters", "line_characters")


@rule("fineweb", FINEWEB, "{value:.0%} of the lines are short", most=0.67, profiles=("web",))
def fineweb_short_lines(m: Measured) -> Floats:
    """Lines of up to 30 characters; a Chinese character counts as two."""
    return m.share("short_lines", "lines")


# RefinedWeb


@rule("refinedweb", REFINEDWEB, "{value:.0%} of the words are in lines of no prose", most=0.05, profiles=("web",),
      script="latin")  # fmt: skip
def refinedweb_lines(m: Measured) -> Floats:
    """Words in lines mainly of capitals, of numbers alone, or of one word. The paper takes such lines out, and the
    document where they held more than a twentieth of it."""
    return m.share("flagged_words", "words")


# Chinese web text


@rule("chinesewebtext", CHINESEWEBTEXT, "{value:.0f} characters", least=200, script="cjk", profiles=("web",))
def chinese_length(m: Measured) -> Floats:
    """Characters."""
    return m["characters"]


@rule("chinesewebtext", CHINESEWEBTEXT, "{value:.0f} characters a line", least=10, script="cjk", profiles=("web",))
def chinese_line_length(m: Measured) -> Floats:
    """Visible characters a line."""
    return m.share("line_characters", "lines")


@rule("chinesewebtext", CHINESEWEBTEXT, "{value:.0%} Chinese characters", least=0.3, script="cjk", profiles=("web",))
def chinese_share(m: Measured) -> Floats:
    """Chinese characters among the visible ones."""
    return m.share("cjk", "visible")


@rule("chinesewebtext", CHINESEWEBTEXT, "{value:.0%} is in repeated runs of 13 characters", most=0.5, script="cjk",
      profiles=("web", "book"))  # fmt: skip
def chinese_repeated_13(m: Measured) -> Floats:
    """Characters in runs of 13 that were there before."""
    return m.share("repeated_13", "word_characters")


@rule("chinese", OURS, "{value:.0f} function characters", least=2, script="cjk", profiles=("web", "book"))
def chinese_function_characters(m: Measured) -> Floats:
    """How many of the characters that any Chinese prose has there are: the counterpart of Gopher's stop words."""
    return m["function_characters"]


@rule("chinese", OURS, "{value:.3f} Chinese marks a character", least=0.01, script="cjk", profiles=("web", "book"))
def chinese_punctuation(m: Measured) -> Floats:
    """Commas, stops and quotes of Chinese over its characters: a list of keywords has none. Texts of fewer than 100
    Chinese characters are not judged."""
    return np.where(m["cjk"] >= 100, m.share("cjk_punctuation", "cjk"), np.inf)
