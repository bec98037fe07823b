"""A web page as blocks of text and the boxes that they stand in, by one walk over the parsed page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tutelage.corpus.hints import is_seen, judged

UNREAD = [
    "head", "script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "applet", "canvas", "audio",
    "video", "map", "dialog", "button", "select", "textarea", "input", "datalist", "progress", "meter", "link", "meta",
    "title", "nav", "menu", "frame", "frameset", "noframes",
]  # fmt: skip
"""Elements without text of their own, or whose text is never the page's."""

BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "html", "legend", "li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "ul",
})  # fmt: skip
HEADINGS = {"h1": "# ", "h2": "## ", "h3": "### ", "h4": "#### ", "h5": "##### ", "h6": "###### "}
CODE = frozenset({"code", "kbd", "samp", "tt"})
LONGEST_CELL = 400
"""Characters of a cell; a row with a longer one is layout."""
DEEPEST = 150
"""Levels of the page that are told apart; what is deeper is read as one block."""


_SPACE = re.compile(r"\s+")
_SENTENCE = re.compile(r"[.!?…;:][\"'”’»)\]]?(?:\s|$)|[。！？；：]|, ")
_ENDS = re.compile(r"[.!?…。！？:：;；][\"'”’»)\]」』]?$")


@dataclass(slots=True)
class Box:
    """An element that holds blocks."""

    tag: str
    hint: int
    """What its names say: 2 main text, 0 nothing, -1 something else."""
    parent: Box | None
    start: int
    """The first of its blocks, in the order of the page."""
    end: int = 0
    good: float = 0.0
    """How much good text it holds."""
    size: int = 0
    links: int = 0


@dataclass(slots=True)
class Block:
    """A run of text without a break."""

    text: str
    kind: str
    """Its element: p, li, h1, pre, tr, ..."""
    lead: str
    """What is written before it: the marks of a heading, a list, a quotation."""
    size: int
    """Bytes of UTF-8, so that a Chinese character weighs as much as half a word."""
    links: int
    """Bytes of it that stand in links."""
    good: float
    """How much it speaks for being the main text, in bytes."""
    box: Box
    place: int
    """Its number on the page."""


def read(page: str) -> tuple[list[Box], list[Block]]:
    """The boxes of a page, outer ones first, and its blocks in order."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(page)
    tree.strip_tags(UNREAD)
    walk = _Walk()
    if tree.body is not None:
        walk.box(tree.body, "body", 0, None, 0)
    return walk.boxes, walk.blocks


class _Walk:
    """One pass over a page."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.blocks: list[Block] = []
        self._parts: list[str] = []
        self._linked = 0
        self._indent = ""
        self._quote = ""

    def box(self, node: Any, tag: str, hint: int, parent: Box | None, depth: int) -> None:
        """Reads an element that holds blocks."""
        box = Box(tag, hint, parent, len(self.blocks))
        self.boxes.append(box)
        kind, lead = "p", self._indent + self._quote
        if tag == "blockquote":
            before, self._quote = self._quote, self._quote + "> "
            self._children(node, box, depth, False, "p", self._indent + self._quote)
            self._quote = before
        elif tag in ("ul", "ol"):
            self._items(node, box, depth, tag == "ol")
        else:
            kind = tag if tag in ("dt", "dd", "figcaption", "td", "address") else "p"
            self._children(node, box, depth, False, kind, lead)
        box.end = len(self.blocks)

    def _items(self, node: Any, box: Box, depth: int, numbered: bool) -> None:
        before, number = self._indent, 0
        child = node.child
        while child is not None:
            if child.tag == "li":
                number += 1
                mark = f"{number}. " if numbered else "- "
                hint = judged(child.attributes, "li")
                if hint is not None:
                    item = Box("li", hint, box, len(self.blocks))
                    self.boxes.append(item)
                    self._indent = before + " " * len(mark)
                    self._children(child, item, depth + 1, False, "li", before + mark)
                    item.end = len(self.blocks)
                self._indent = before
            elif child.tag in BLOCKS:
                self._block(child, child.tag, box, depth + 1)
            child = child.next

    def _children(self, node: Any, box: Box, depth: int, linked: bool, kind: str, lead: str) -> None:
        """Reads what stands in a box; text that stands bare in it becomes blocks of this kind."""
        self._inline(node, box, depth, linked, kind, lead)
        self._end(box, kind, lead)

    def _inline(self, node: Any, box: Box, depth: int, linked: bool, kind: str, lead: str) -> None:
        parts = self._parts
        child = node.child
        while child is not None:
            tag = child.tag
            if tag == "-text":
                text = child.text_content
                parts.append(text)
                if linked:
                    self._linked += len(text.strip())
            elif tag in BLOCKS:
                self._end(box, kind, lead)
                if kind == "li":
                    lead = self._indent + self._quote
                self._block(child, tag, box, depth + 1)
            elif tag == "br":
                parts.append("\x00")
            elif tag == "-comment":
                pass
            elif tag in CODE or depth > DEEPEST:
                text = child.text(deep=True)
                parts.append(f"`{text}`" if tag in CODE and "`" not in text and text.strip() else text)
            else:
                attributes = child.attributes
                if tag == "a":
                    self._inline(child, box, depth + 1, True, kind, lead)
                elif not attributes or is_seen(attributes, tag):
                    self._inline(child, box, depth + 1, linked, kind, lead)
            child = child.next

    def _block(self, node: Any, tag: str, box: Box, depth: int) -> None:
        hint = judged(node.attributes, tag)
        if hint is None:
            return
        if tag in HEADINGS:
            self._whole(node, tag, HEADINGS[tag], 0, box)
        elif tag == "pre":
            self._code(node, hint, box)
        elif tag == "tr":
            self._row(node, hint, box, depth)
        elif depth > DEEPEST:
            self._whole(node, "p", "", hint, box)
        elif tag != "hr":
            self.box(node, tag, hint, box, depth)

    def _whole(self, node: Any, kind: str, lead: str, hint: int, box: Box) -> None:
        text = _SPACE.sub(" ", node.text(deep=True)).strip()
        if text:
            links = sum(len(a.text(deep=True)) for a in node.css("a")) if hint >= 0 else 0
            self._add(text, kind, lead, links, hint, box)

    def _code(self, node: Any, hint: int, box: Box) -> None:
        text = node.text(deep=True).strip("\n").rstrip()
        if text.strip():
            self._add(text, "pre", "", 0, hint, box)

    def _row(self, node: Any, hint: int, box: Box, depth: int) -> None:
        """A row of data becomes one block, one of layout is read as boxes."""
        cells: list[Any] = []
        child = node.child
        while child is not None:
            if child.tag in ("td", "th"):
                cells.append(child)
            child = child.next
        texts = [_SPACE.sub(" ", cell.text(deep=True, separator=" ")).strip() for cell in cells]
        if len(cells) < 2 or max(map(len, texts)) > LONGEST_CELL or node.css_first("table, h1, h2, h3, ul, pre, form"):
            self.box(node, "tr", hint, box, depth)
        elif any(texts):
            links = sum(len(a.text(deep=True)) for a in node.css("a"))
            self._add("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |", "tr", "", links, hint, box)

    def _end(self, box: Box, kind: str, lead: str) -> None:
        """Ends a block."""
        parts = self._parts
        if not parts:
            return
        raw = "".join(parts)
        parts.clear()
        links, self._linked = self._linked, 0
        if "\x00" in raw:
            text = "\n".join(_SPACE.sub(" ", line).strip() for line in raw.split("\x00")).strip("\n")
        else:
            text = _SPACE.sub(" ", raw).strip()
        if text:
            self._add(text, kind, lead, links, 0, box)

    def _add(self, text: str, kind: str, lead: str, links: int, hint: int, box: Box) -> None:
        length = len(text)
        size = length if text.isascii() else len(text.encode("utf-8", "replace"))
        links = min(size, links * size // length)
        good = 0.0 if kind in HEADINGS else _goodness(text, kind, size, links)
        if hint:
            inner = Box(kind, hint, box, len(self.blocks), len(self.blocks) + 1)
            self.boxes.append(inner)
            box = inner
        self.blocks.append(Block(text, kind, lead, size, links, good, box, len(self.blocks)))


def _goodness(text: str, kind: str, size: int, links: int) -> float:
    """How much a block speaks for being main text: its bytes, if it is long, has sentences and few links."""
    if links * 3 > size:
        return 0.0
    if kind == "pre":
        return 0.5 * size
    if kind == "tr":
        return 0.2 * size
    sentences = len(_SENTENCE.findall(text))
    if size >= 100:
        return float(size - links) if sentences else 0.2 * size
    return 0.6 * (size - links) if size >= 40 and sentences and _ENDS.search(text) else 0.0
