"""Sentences and words, in English and in Chinese.

The templates cut their answers with these functions and the judge marks with the same ones, so that both mean the same
by "one sentence".
"""

from __future__ import annotations

import re

_HAN = "\u3400-\u9fff\uf900-\ufaff"
_CLOSERS = "\"'”’」』）)\\]`*_"
_LATIN_END = rf"(?:[.!?]+|…)[{_CLOSERS}]*(?=\s|$)"
_HAN_END = rf"[。！？][。！？]*[{_CLOSERS}]*"
_END = re.compile(rf"{_HAN_END}|{_LATIN_END}")
_CHINESE = re.compile(f"[{_HAN}]")
_PARAGRAPH = re.compile(r"\n\s*\n")
_HAN_LINE = re.compile(rf"(?<=[{_HAN}。！？；：，、”」』）])[ \t]*\n[ \t]*|[ \t]*\n[ \t]*(?=[{_HAN}“「『（])")
_PAIRS = ("()", "[]", "{}", "（）", "“”", "「」", "《》")
_WORD = re.compile(rf"[A-Za-z_]\w*|\d+|[{_HAN}]", re.ASCII)
# What stands before a full stop that ends no sentence. The second kind may end one too: then a capital follows.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'`])(?:e\.g|i\.e|eg|ie|cf|vs|viz|resp|approx|ca|fig|figs|eq|eqs|sec|nr|vol|pp|ref|refs"
    r"|dr|mr|mrs|ms|prof|st|jr|inc|incl|excl)\.$",
    re.IGNORECASE,
)
_PERHAPS = re.compile(
    r"(?:^|[\s(\[])(?:etc|a\.k\.a|u\.s|et\sal|ed|max|min|std|def|arg|args|param|params)\.[)\]]*$", re.I
)
_ENUMERATION = re.compile(r"^[(\[]?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4})\.$")

_STOP_WORDS = """
a an the this that these those it its is are was were be been being am of in on at to for from by with as and or
not no if then than so such will would can could may might must shall should do does did has have had which who
whose what when where how there here you your we our they their he she his her i me my
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing about what a sentence is about."""

HAN_STOP_WORDS = frozenset("的了是在和与及或也都而就之其这那有为以于对着个一不们")
"""Chinese characters of the same kind."""


def is_chinese(text: str) -> bool:
    """Whether Chinese characters make up a fifth of the text or more."""
    visible = len(text) - text.count(" ") - text.count("\n")
    return visible > 0 and len(_CHINESE.findall(text)) * 5 >= visible


def join(text: str) -> str:
    """The text on one line: broken lines joined by a space, or by nothing between Chinese characters."""
    return " ".join(_HAN_LINE.sub("", text).split())


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line, in order.

    A blank line ends a sentence, and so does a line break beside Chinese writing. Abbreviations ("e.g.", "cf."),
    numbers of a list ("1."), dots inside names and marks inside code end none. The last one may lack its full stop.
    """
    found: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        for piece in _HAN_LINE.split(paragraph):
            found.extend(_of_line(" ".join(piece.split())))
    return found


def content_words(text: str) -> list[str]:
    """Lower-case words without stop words; every Chinese character is a word."""
    found = (word.lower() for word in _WORD.findall(text))
    return [word for word in found if word not in STOP_WORDS and word not in HAN_STOP_WORDS]


def balanced(text: str) -> bool:
    """Whether brackets, double quotes and backticks are closed."""
    pairs = all(text.count(opening) == text.count(closing) for opening, closing in _PAIRS)
    return pairs and text.count("`") % 2 == 0 and text.count('"') % 2 == 0


def counted(count: int, one: str, many: str = "") -> str:
    """``1 document``, ``1,234 documents``; many: what several are called, if not by an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _of_line(line: str) -> list[str]:
    found: list[str] = []
    start = 0
    for match in _END.finditer(line):
        candidate = line[start : match.end()].strip()
        if not candidate or _goes_on(candidate, line[match.end() :].lstrip()):
            continue
        found.append(candidate)
        start = match.end()
    rest = line[start:].strip()
    return [*found, rest] if rest else found


def _goes_on(candidate: str, following: str) -> bool:
    """Whether the stop at the end of the candidate is no end."""
    if not following:
        return False
    if _ENUMERATION.match(candidate) or _ABBREVIATION.search(candidate) or candidate.endswith("`"):
        return True
    if candidate.endswith(("！”", "？”", "！」", "？」")):
        # A short cry inside a sentence, such as 按“开始！”键: the sentence goes on if it began before the quote.
        return candidate[0] not in "“「" and following[0] not in "“「"
    if not following[0].islower():
        return False
    return candidate[-1] in "\"'”’)]…" or candidate.endswith("...") or _PERHAPS.search(candidate) is not None
