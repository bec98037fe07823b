"""The main text of a web page, with its structure: headings, lists, tables and code stay what they are.

A page is parsed once (lexbor) and walked once. The walk gives a flat list of blocks, each with its text, how much of it
stands in links, and the box of the page that it is in. Boxes are then judged by how much good text they hold: the main
text is the smallest box with most of it, without the boxes in it that are named after something else, and without the
blocks at its edges that are short or made of links.

Source: Kohlschuetter et al. 2010, Boilerplate detection using shallow text features (WSDM): text length and link
density of a block and its neighbours. Pomikalek 2011, Removing boilerplate and duplicate content: a short block is
judged by what stands around it. Where we differ: the box is chosen first, by the share of good text.
"""

from __future__ import annotations

from itertools import accumulate

from tutelage.corpus.blocks import HEADINGS, LONGEST_CELL, Block, Box, read
from tutelage.corpus.hints import AFTERWORD, BYLINE, COMMENTS, CREDIT, DATE, MAIN, NEVER

LONGEST_NOTICE = 80
"""Bytes of a date, a byline or a credit."""


def main_text(page: str) -> str:
    """The main text of a page, as Markdown; all its readable text where no part stands out.

    Broken markup is read as a browser would.
    """
    boxes, blocks = read(page)
    return _written(_chosen(boxes, blocks))


def all_text(page: str) -> str:
    """All readable text of a page, in the same form: for pages that hold nothing else, such as those of a book."""
    return _written(read(page)[1])


def _chosen(boxes: list[Box], blocks: list[Block]) -> list[Block]:
    """The blocks of the main text."""
    if not blocks:
        return []
    _weigh(boxes, blocks, NEVER)
    if boxes[0].good and boxes[0].good >= 0.25 * sum(block.good for block in blocks):
        root = _root(boxes, boxes[0].good)
    else:
        centre = [box for box in boxes if box.size and (box.hint == MAIN or box.tag == "main")]
        if not centre:
            _weigh(boxes, blocks, COMMENTS)
        root = max(centre, key=lambda box: box.size) if centre else _root(boxes, boxes[0].good)
    inside = [block for block in blocks[root.start : root.end] if not _outside(block.box, root)]
    return _trimmed(_without_notices(_without_afterwords(inside, blocks, root), root))


def _weigh(boxes: list[Box], blocks: list[Block], worst: int) -> None:
    """Adds up the good text of each box; what is in a box with so bad a hint counts for that box alone."""
    for box in boxes:
        box.good = box.links = box.size = 0
    for block in blocks:
        box: Box | None = block.box
        while box is not None:
            box.good += block.good
            box.size += block.size
            box.links += block.links
            if box.hint <= worst:
                break
            box = box.parent


def _root(boxes: list[Box], whole: float) -> Box:
    """The smallest box with most of the good text; one that is named after it needs less."""
    if not whole:
        return boxes[0]
    named = [
        box
        for box in boxes
        if box.good >= 0.4 * whole and (box.hint == MAIN or (box.hint > NEVER and box.tag in ("article", "main")))
    ]
    if named:
        bodies = [box for box in named if box.hint == MAIN] or named
        best = max(bodies, key=lambda box: (box.good >= 0.7 * named[0].good, box.start, -box.end))
    else:
        full = [box for box in boxes if box.good >= 0.9 * whole and box.hint > NEVER]
        best = max(full, key=lambda box: (box.start, -box.end), default=boxes[0])
    # An opening paragraph often has a box of its own beside the rest.
    above = best
    while above.parent is not None and above.parent.hint > NEVER:
        above = above.parent
        more, size = above.good - best.good, above.size - best.size
        if more * 2 < size:
            break
        if size:
            best = above
    return _home(best)


def _outside(box: Box | None, root: Box) -> bool:
    """Whether a box, or one between it and the root, is named after something else and does not hold most of it."""
    while box is not None and box is not root:
        if box.tag == "form" and box.good <= 0.2 * root.good:
            return True
        if box.hint < 0:
            if box.hint <= NEVER and box.good <= 0.5 * root.good:
                return True
            if box.good * 2 < box.size:
                return True
        box = box.parent
    return False


_FLOW = frozenset({"p", "li", "ul", "ol", "dl", "dt", "dd", "blockquote", "table", "tbody", "tr", "td", "center"})
"""Elements that structure text, and say nothing of where on the page it stands."""


def _without_afterwords(inside: list[Block], blocks: list[Block], root: Box) -> list[Block]:
    """Without what stands under a heading such as "Related articles", to the end of the box that holds it.

    inside: some of the page's blocks.
    """
    good = [0.0, *accumulate(block.good for block in blocks)]
    kept: list[Block] = []
    until = 0
    for block in inside:
        if block.place < until:
            continue
        short = block.size <= LONGEST_CELL // 4 and (block.kind in HEADINGS or block.kind == "p")
        if short and AFTERWORD.match(block.text):
            end = _home(block.box).end
            if good[max(end, block.place)] - good[block.place] <= 0.25 * root.good:
                until = end
                continue
        kept.append(block)
    return kept


def _without_notices(blocks: list[Block], root: Box) -> list[Block]:
    """Without dates, bylines and credits that stand alone, and without parts that speak of cookies."""
    kept = [block for block in blocks if not _is_notice(block)]
    spoken: dict[int, int] = {}
    for block in kept:
        if "ookie" in block.text:
            part = id(_part(block.box, root))
            spoken[part] = spoken.get(part, 0) + block.text.count("ookie")
    notices = {part for part, count in spoken.items() if count > 1}
    if not notices:
        return kept
    small = {
        id(part)
        for part in (_part(block.box, root) for block in kept)
        if id(part) in notices and part is not root and part.good <= 0.3 * root.good
    }
    return [block for block in kept if id(_part(block.box, root)) not in small]


def _is_notice(block: Block) -> bool:
    """Whether a block says only when, by whom or from where something is."""
    if block.kind == "figcaption":
        return not block.good
    if block.kind != "p" or block.size > LONGEST_NOTICE:
        return False
    if (not block.good or block.links) and CREDIT.match(block.text):
        return True
    if BYLINE.match(block.text) and (block.links or any(map(str.isdigit, block.text))):
        return True
    date = DATE.match(block.text)
    return date is not None and len(date[0]) * 10 >= 6 * len(block.text)


def _part(box: Box, root: Box) -> Box:
    """The part of the root that a box is in."""
    while box is not root and box.parent is not root and box.parent is not None:
        box = box.parent
    return box


def _home(box: Box) -> Box:
    """The box that a block's own elements stand in."""
    while box.tag in _FLOW and box.parent is not None:
        box = box.parent
    return box


def _trimmed(blocks: list[Block]) -> list[Block]:
    """Without runs of links, and without what is short and alone before the first and after the last good block."""
    homes = {id(_home(block.box)) for block in blocks if block.good > 0}
    kept = [
        block
        for block in blocks
        if block.good > 0
        or block.kind in HEADINGS
        or ((block.links * 2 <= block.size or block.kind in ("p", "li")) and id(_home(block.box)) in homes)
        or block.links * 4 <= block.size
    ]
    good = [place for place, block in enumerate(kept) if block.good > 0 or id(_home(block.box)) in homes]
    if not good:
        return kept
    first, last = good[0], good[-1]
    while first and kept[first - 1].kind in HEADINGS:
        first -= 1
    kept = kept[first : last + 1]
    return [block for place, block in enumerate(kept) if block.kind not in HEADINGS or _leads(place, kept)]


def _leads(place: int, kept: list[Block]) -> bool:
    """Whether a heading stands over something; one that is a link and stands over another heading is of a list."""
    heading = kept[place]
    return place + 1 < len(kept) and (heading.links * 2 <= heading.size or kept[place + 1].kind not in HEADINGS)


def _written(blocks: list[Block]) -> str:
    """The blocks as Markdown."""
    lines: list[str] = []
    before = ""
    for block in blocks:
        if lines and not (block.kind == before and block.kind in ("li", "tr")):
            lines.append("")
        if block.kind == "pre":
            fence = "```" if "```" not in block.text else "~~~~"
            lines += [fence, block.text, fence]
        else:
            lines.append(block.lead + block.text)
        before = block.kind
    return "\n".join(lines)
