"""Text made plain: no leftovers of markup, one form of Unicode, no control characters, no ragged white space.

What carries meaning stays: emoji with their joiners, full-width letters, old forms of characters. So does code: what
stands between fences or back ticks, or is indented in a way that prose is not.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tutelage.corpus.traits import CONTROL, FORMS, LEFTOVER, LINE_ENDS, MARKUP, MOJIBAKE, TRAILING, UNCLEAN

_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\uffff]"
)
"""Characters that nobody sees. The joiners of emoji and of Persian or Indian words, U+200C and U+200D, are none."""
_LINE_ENDS = re.compile(r"\r\n?|\u2028|\u2029|\x85")
_BLANK_LINES = re.compile(r"\n\n\n\n+")
_TRAILING = " \t\u3000\xa0"
_UNSEEN = bytes([*range(9), 11, 12, *range(14, 32), 127])

TAGS = (
    "a|abbr|acronym|address|area|article|aside|b|base|bdo|big|blockquote|body|br|button|canvas|caption|center|cite|col|colgroup"
    "|dd|del|dfn|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h[1-6]|head|header|hr|html"
    "|i|iframe|img|input|ins|label|legend|li|link|main|map|marquee|meta|nav|nobr|noscript|object|ol|optgroup|option|p|param"
    "|pre|q|s|section|select|small|span|strike|strong|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt"
    "|u|ul|video|wbr|script"
)
NAMES = frozenset({
    *(name for tag in TAGS.replace("h[1-6]", "h1|h2|h3|h4|h5|h6").split("|") for name in (tag, tag.upper())),
    "kbd", "ruby",
})  # fmt: skip
"""The names of elements that are taken out, and of those that stay with what they hold."""
_ATTRIBUTES = r"(?:\s+[a-zA-Z_:@][\w:.-]*(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=`]+))?)*"
_MARKUP = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`(?:[^<&`~\]]*`[^`\n]+`)*|<(su[bp]|kbd|ruby)>[^<>\n]{1,60}</\1>"
    r"|<!--.{0,100000}?-->|<[aA]\s+(?:name|id)\s*=[^<>\n]{0,200}>\s*</[aA]>[ ]?"
    r"|<!\[CDATA\[|\]\]>|<!(?:DOCTYPE|doctype)[^>\n]*>"
    r"|<(?:script|SCRIPT)\b[^<>]*>.{0,20000}?</(?:script|SCRIPT)\s*>"
    r"|<(?:style|STYLE)\b[^<>]*>.{0,20000}?</(?:style|STYLE)\s*>"
    rf"|<(?:/\s*)?(?:{TAGS}|{TAGS.upper()}){_ATTRIBUTES}\s*/?>"
    r"|&(?:amp;)*(?:[a-zA-Z][a-zA-Z0-9]{1,24}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});",
    re.DOTALL,
)
"""Code, which stays, and leftovers of markup, which go: comments, scripts, elements of HTML, escaped characters."""
_MAYBE_MARKUP = re.compile(r"<[a-zA-Z/!]|&#?[a-zA-Z0-9]{2,25};|\]\]>")
_ESCAPED_TAG = re.compile(rf"&lt;(?:/\s*)?(?:{TAGS})(?:\s[^&<>\n]*)?/?\s*&gt;")
_BREAKS = re.compile(
    r"<(?:/\s*)?(?:br|p|div|li|tr|h[1-6]|table|ul|ol|dl|section|article|hr|blockquote)\b", re.IGNORECASE
)
_FENCE = re.compile(r"(?:```+|~~~+)[ {.]*([A-Za-z+#]+)")
_WITHOUT_ELEMENTS = frozenset(
    "c cpp c++ cc cxx objc csharp cs c# fsharp vb java kotlin scala go rust rs swift python py ruby rb r julia lua perl"
    " sql bash sh shell powershell ps console toml yaml yml ini json js javascript ts typescript idl asm".split()
)
"""Languages in which HTML stands only in strings and comments. JSX is told as its own, or as ``js`` with elements that
stand alone or in brackets, and not behind a word."""
_GLUED = re.compile(
    r"(?:<(?<=[\w;)}\]]<)!--[^\n]{0,200}-->"
    rf"|<(?<=[\w;)}}\]]<)(?:{TAGS})(?:\s+[a-zA-Z-]+\s*=\s*(?:\"[^\"<>\n]*\"|[\w.-]+))+\s*/?>)(?=\n|\Z)"
)
_INDENTED = re.compile(r"[ ]{4,}|[ ]*\t")
_PROSE = re.compile(r"[，。！？；：、]|[A-Za-z]{2,},? [a-z]{2,},? [a-z]{2,},? [a-z]{2,}")

_UTF8_AS_LATIN = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013-\u203a\u20ac\u2122]"
)
_UTF8_AS_GBK = re.compile("[锛銆鐨鏄涓浜鍦鏈]")
_CUTS = ("\n\n", "\n", "。", ". ", " ")

LEFTOVERS = frozenset({
    "skip to content", "skip to main content", "skip to navigation", "jump to navigation", "toggle navigation",
    "back to top", "scroll to top", "read more", "read more »", "continue reading", "continue reading →",
    "click here to read more", "leave a comment", "leave a reply", "share this", "share this post",
    "share this article", "share on facebook", "share on twitter", "tweet this", "print this page",
    "add to cart", "add to favorites", "sign up for our newsletter", "subscribe to our newsletter",
    "all rights reserved", "all rights reserved.", "advertisement", "advertisements",
    "please enable javascript", "please enable javascript.", "javascript is disabled", "accept all cookies",
    "accept cookies", "跳到主要内容", "跳转到主要内容", "返回顶部", "回到顶部", "阅读全文", "阅读更多", "查看更多",
    "点击查看更多", "展开全文", "收起全文", "加入收藏", "设为首页", "分享到", "上一篇", "下一篇", "广告",
    "版权所有", "发表评论", "我要评论", "返回頂部", "閱讀更多", "查看更多>>", "更多>>",
})  # fmt: skip
"""Lines that pages have around their text, when they are a line of their own."""
_LONGEST_LEFTOVER = max(map(len, LEFTOVERS))


class Cleaned(NamedTuple):
    """A text, and how often what was changed in it."""

    text: str
    changes: dict[str, int]
    """By kind: markup, mojibake, boilerplate, control (invisible characters), unicode (another form of characters)."""


def clean(text: str) -> str:
    """The text without leftovers of markup, in Unicode NFC, with ``\\n`` line ends, without control characters or
    trailing spaces, and with at most two blank lines in a row. Cleaning a clean text changes nothing."""
    return cleaned(text).text


def cleaned(text: str) -> Cleaned:
    """The same, with what was changed."""
    found, before, needs = Cleaned(text, {}), "", UNCLEAN
    while needs and before != found.text:
        before = found.text
        found, needs, _ = once(before, UNCLEAN, found.changes)
    return found


def pieces(text: str, longest: int) -> list[str]:
    """The text in pieces of at most ``longest`` characters, cut at a blank line if there is one in the last half,
    else at a line end, else at a full stop or a space, else anywhere."""
    found: list[str] = []
    while len(text) > longest:
        places = (_last(text[:longest], mark) for mark in _CUTS)
        cut = next((place for place in places if place > longest // 2), longest)
        found.append(text[:cut].strip("\n"))
        text = text[cut:].strip("\n")
    return [piece for piece in [*found, text] if piece.strip()]


class _Again:
    """Whether something that was taken away may have brought something else to light."""

    needed = False


Edit = tuple[int, int, str]
"""Markup, from where to where, and what stands for it."""


class Once(NamedTuple):
    found: Cleaned
    needs: int
    """Which traits of what the text is now say what has to be done yet."""
    edits: list[Edit]
    """In the text as it was, if of its traits nothing else matters: they are those of `touched` lines."""


def once(text: str, needs: int, known: dict[str, int], places: Sequence[int] | None = None) -> Once:
    """The text cleaned one time.

    Args:
        needs: those of its `traits` that say what may have to be done.
        known: what was changed in it before; in what is given back it is counted too.
        places: of its markup, as `traits` tells them; else all of it is looked at.
    """
    changes = dict(known)
    again = _Again()
    given, lines = text, TRAILING | LEFTOVER
    plain = text.isascii()
    composed = plain or not needs & FORMS or unicodedata.is_normalized("NFC", text)
    if needs & (MOJIBAKE | LINE_ENDS | CONTROL) or not composed:
        needs = UNCLEAN  # what they change can be anything
    if needs & MOJIBAKE and not plain:
        repaired = _repaired(text, changes)
        again.needed, text = repaired != text, repaired
    if needs & LINE_ENDS:
        text = _LINE_ENDS.sub("\n", text)
    if needs == UNCLEAN and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
        _count(changes, "unicode", 1)
    if needs & CONTROL:
        shown = _without_control(text, plain, changes)
        again.needed |= len(shown) != len(text)
        text = shown
    yet, edits = 0, list[Edit]()
    if needs & MARKUP and (_MAYBE_MARKUP.search(text, places[0] if places else 0) or _MAYBE_MARKUP.search(text)):
        edits = _edits(text, again, places if text is given else None)
        if edits:
            needs, yet = (needs | lines, 0) if needs & lines else (needs, lines)
            _count(changes, "markup", len(edits))
            whole, text = text is given, _edited(text, edits)
            edits = edits if whole and "\u1680" not in text else []  # a space that counts as a letter
    if needs & TRAILING:
        for blank in _TRAILING[:2] if plain else _TRAILING:
            if (end := f"{blank}\n") in text:
                *parts, rest = text.split(end)
                text = "\n".join([*(part.rstrip(_TRAILING) for part in parts), rest])
    if needs & LEFTOVER:
        kept = _without_leftovers(text, changes)
        again.needed |= kept is not text
        text = kept
    if "\n\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n\n", text)
    found = Cleaned(text.strip("\n").rstrip(), changes)
    return Once(found, UNCLEAN, []) if again.needed else Once(found, yet, edits)


def touched(text: str, edits: Sequence[Edit]) -> tuple[str, str]:
    """The lines of a text in which there are edits, with their ends: as they are, and as they become."""
    before: list[str] = []
    after: list[str] = []
    begin = done = stop = 0
    for start, end, left in edits:
        if start >= stop:
            before.append(text[begin:stop])
            after.append(text[done:stop])
            begin = done = text.rfind("\n", 0, start) + 1
        after += (text[done:start], left)
        done = end
        if end > stop:
            stop = text.find("\n", end) + 1 or len(text)
    return "".join([*before, text[begin:stop]]), "".join([*after, text[done:stop]])


def _count(changes: dict[str, int], kind: str, count: int) -> None:
    if count:
        changes[kind] = changes.get(kind, 0) + count


def _without_control(text: str, plain: bool, changes: dict[str, int]) -> str:
    if plain:
        content = text.encode("ascii")
        kept = content.translate(None, _UNSEEN)
        _count(changes, "control", len(content) - len(kept))
        return text if len(kept) == len(content) else kept.decode("ascii")
    text, count = _CONTROL.subn("", text)
    _count(changes, "control", count)
    return text


def _edits(text: str, again: _Again, places: Sequence[int] | None) -> list[Edit]:
    """Markup that goes."""
    edits: list[Edit] = []
    for found in _marks(text, places):
        mark = found[0]
        first = mark[0]
        start, end = found.span()
        if first in "`~":
            left = _without_glued(mark)
            if len(left) == len(mark):
                continue
        elif found[1] or _is_code(text, start):
            continue
        elif first == "&":
            plain = mark.replace("amp;", "") if "amp;" in mark and mark != "&amp;" else mark
            left = html.unescape(plain)
            if left == plain or (left in "<>" and not _ESCAPED_TAG.match(text, _start(text, found))):
                continue
            again.needed = again.needed or left not in "\xa0 \"'"
            left = left.replace("\xa0", " ")
        else:
            again.needed = again.needed or "`" in mark or _is_begun(text, max(0, start - 40), start)
            left = _gap(text, start, end) if _BREAKS.match(mark) else ""
        edits.append((start, end, left))
    return edits


def _is_begun(text: str, start: int, end: int) -> bool:
    """Whether an element or an escaped character begins that does not end."""
    opened, escaped = text.rfind("<", start, end), text.rfind("&", start, end)
    return (opened >= 0 and opened > text.rfind(">", start, end)) or (
        escaped >= 0 and escaped > text.rfind(";", start, end)
    )


def _edited(text: str, edits: Sequence[Edit]) -> str:
    parts: list[str] = []
    done = 0
    for start, end, left in edits:
        parts += (text[done:start], left)
        done = end
    return "".join([*parts, text[done:]])


def _marks(text: str, places: Sequence[int] | None) -> Iterator[re.Match[str]]:
    """Code and leftovers of markup in a text, in order.

    places: where there may be some that matter, if that is known; what stands between them is passed over.
    """
    if places is None:
        yield from _MARKUP.finditer(text)
        return
    done = 0
    for place in places:
        if place < done or not (found := _MARKUP.match(text, place)):
            continue
        yield found
        done = found.end()
        if text[place] == "<" and ("`" in found[0] or "~~~" in found[0]):  # no code begins in it, as the places have it
            yield from _MARKUP.finditer(text, done)
            return


def _without_glued(code: str) -> str:
    """A block of code without elements and comments of HTML that hang at the end of its lines.

    Only where they can be no code: in a language that has no elements, right behind a word, a bracket or a semicolon.
    """
    if "<" not in code or ">\n" not in code:
        return code
    language = _FENCE.match(code)
    if language is None or language[1].lower() not in _WITHOUT_ELEMENTS:
        return code
    return _GLUED.sub("", code)


def _start(text: str, found: re.Match[str]) -> int:
    """Where the escaped element begins that an escaped bracket belongs to."""
    return found.start() if found[0] == "&lt;" else text.rfind("&lt;", max(0, found.start() - 300), found.start())


def _gap(text: str, start: int, end: int) -> str:
    """What stands for an element that ends a line: nothing where the line ends anyway, else a space."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return "" if before in ("", "\n", " ", "|", ">") or after in ("", "\n", " ", "<") else " "


def _is_code(text: str, place: int) -> bool:
    """Whether a place is on a line that is indented as code is, and does not read like prose before it."""
    start = text.rfind("\n", 0, place) + 1
    if text[start] not in " \t" or not _INDENTED.match(text, start, place) or _PROSE.search(text, start, place):
        return False
    return not text.endswith(("```", "~~~"), start, place)


def _without_leftovers(text: str, changes: dict[str, int]) -> str:
    short = _LONGEST_LEFTOVER
    lines = text.split("\n")
    kept = [line for line in lines if len(line) > short or not line or line.strip().lower() not in LEFTOVERS]
    if len(kept) == len(lines):
        return text
    _count(changes, "boilerplate", len(lines) - len(kept))
    return "\n".join(kept)


def _repaired(text: str, changes: dict[str, int]) -> str:
    """Text that was written in UTF-8 and read as something else, as it was meant, line by line.

    Source: the library ftfy decides whether a line is such, and what was done to it.
    """
    latin = _UTF8_AS_LATIN.search(text) is not None
    chinese = len(_UTF8_AS_GBK.findall(text[:4000])) * 12 > min(len(text), 4000)
    if not latin and not chinese:
        return text
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if latin and _UTF8_AS_LATIN.search(line):
            lines[place] = _from_latin(line)
        elif chinese and _UTF8_AS_GBK.search(line):
            lines[place] = _from_gbk(line)
    repaired = "\n".join(lines)
    _count(changes, "mojibake", int(repaired != text))
    return repaired


def _from_latin(line: str) -> str:
    try:
        return line.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        import ftfy

        return ftfy.fix_encoding(line)


def _from_gbk(line: str) -> str:
    try:
        return line.encode("gb18030").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return line


def _last(window: str, mark: str) -> int:
    at = window.rfind(mark)
    return at + len(mark) if at >= 0 else -1
