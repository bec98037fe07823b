"""Text made plain: one form of Unicode, no control characters, no ragged white space, no markup of web pages."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\ufffe\uffff]")
_TRAILING = re.compile(r"[ \t\u3000]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")

_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure", "h1", "h2",
    "h3", "h4", "h5", "h6", "hr", "li", "main", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
})  # fmt: skip
_UNREAD = frozenset({"head", "script", "style", "noscript", "template", "svg", "nav", "footer", "form", "iframe"})
_LINES = frozenset({"br", "li", "tr", "dt", "dd"})
_CUTS = ("\n\n", "\n", "。", ". ", " ")


def clean(text: str) -> str:
    """The text in Unicode NFC, with ``\\n`` line ends, no control characters or trailing spaces, at most two blank
    lines in a row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = _TRAILING.sub("", _CONTROL.sub("", text))
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n").rstrip()


def html_text(page: str) -> str:
    """The readable text of a web page: without scripts, styles, navigation and forms; blocks become paragraphs."""
    reader = _Page()
    reader.feed(page)
    reader.close()
    return reader.text()


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


def _last(window: str, mark: str) -> int:
    at = window.rfind(mark)
    return at + len(mark) if at >= 0 else -1


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._unread: list[str] = []
        self._kept_as_is = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _UNREAD:
            self._unread.append(tag)
        elif tag in _BLOCKS:
            self._parts.append("\n" if tag in _LINES else "\n\n")
        if tag == "pre":
            self._kept_as_is += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unread:
            # An unclosed inner element must not hide the rest of the page.
            del self._unread[self._unread.index(tag) :]
        elif tag in _BLOCKS and tag not in ("br", "hr"):
            self._parts.append(" " if tag in ("td", "th") else "\n" if tag in _LINES else "\n\n")
        if tag == "pre" and self._kept_as_is:
            self._kept_as_is -= 1

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self._parts.append(data if self._kept_as_is else re.sub(r"\s+", " ", data))

    def text(self) -> str:
        lines = re.sub(r"(?m)^ (?! )", "", "".join(self._parts))
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", lines)).strip()
