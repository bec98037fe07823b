"""What a docstring says, part by part: its prose, its parameters, what it returns, what it raises.

Three written styles are read, and the dialect of `transformers`::

    numpy    Parameters          google   Args:                       sphinx   :param x: meaning
             ----------                       x (int): meaning                 :raises ValueError: when
             x : int                      Raises:                              :returns: meaning
                 meaning                      ValueError: when

Markup is cleaned first, on the whole docstring, so that what is quoted from it afterwards stands in it word for word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.sentences import sentences

LONGEST = 20_000
"""Characters of a docstring that are read; what stands later is no material for a short question."""

_ROLE = re.compile(r":(?:[\w+.-]+:)+`(~|!)?([^`<\n]*?)(?:\s*<([^`>\n]*)>)?`")
_LINK = re.compile(r"`([^`<\n]+?)\s*<[^`>\n]+>`__?")
_REFERENCE = re.compile(r"`([^`\n]+)`__?(?!\w)")
_DOUBLE = re.compile(r"``([^`\n](?:[^\n]*?[^`\n])?)``")
_BRACKET = re.compile(r"\[`[~!]?([^`\n]+)`\](?:\([^)\s]*\))?")
_WEB = re.compile(r"\[([^\]\n]{1,120})\]\((?:https?://|\.|/|#)[^)\s]*\)")
_BOLD = re.compile(r"(?<![A-Za-z0-9_*\\`])\*\*(\w(?:[^*`\n]*[\w.:!)])?)\*\*(?![A-Za-z0-9_*`])")
_ITALIC = re.compile(
    r"(?<![\w*\\`(,])\*(\w(?:[^*`\n]*[\w.:!)])?)\*(?![\w*`])|(?<=[(,] )\*(optional)\*|\(\*(optional)\*"
)
_DIRECTIVE = re.compile(r"^([ \t]*)\.\.(?:[ \t][^\n]*|)(?:\n+\1[ \t]+[^\n]*)*\n*", re.MULTILINE)
_TAG = re.compile(
    r"(?<!`)</?(?:Tip|tip|a|b|i|u|br|p|em|strong|code|div|span|su[bp]|kbd|h[1-6]|[ou]l|li)(?: [^>\n]*)?/?>"
)
_FENCE = re.compile(r"^([ \t]*)```[^\n]*\n.*?^[ \t]*```[ \t]*\n?", re.MULTILINE | re.DOTALL)
_FOOTNOTE = re.compile(r"\s?\[(?:\d+|#\w*)\]_")
_ESCAPE = re.compile(r"\\([*_`|\\])|(?<=\w`)\\ ?(?=\w)")

_NUMPY_HEADER = re.compile(r"^(\w[\w ]*?):?[ \t]*\n-{3,}[ \t]*$", re.MULTILINE)
_GOOGLE_HEADER = re.compile(r"^([A-Z][A-Za-z]*(?: [A-Za-z]+){0,2}):{1,2}[ \t]*$", re.MULTILINE)
_SPHINX_FIELD = re.compile(r"^:(\w+)(?:[ \t]+([^:\n]*?))?:[ \t]*", re.MULTILINE)
_KINDS = {
    "parameters": "parameters", "other parameters": "parameters", "args": "parameters", "arguments": "parameters",
    "params": "parameters", "keyword args": "parameters", "keyword arguments": "parameters", "inputs": "parameters",
    "returns": "returns", "return": "returns", "raises": "raises", "raise": "raises", "exceptions": "raises",
    "param": "parameters", "parameter": "parameters", "arg": "parameters", "argument": "parameters",
    "keyword": "parameters", "key": "parameters", "except": "raises", "exception": "raises",
}  # fmt: skip
_NUMPY_NAME = re.compile(r"^`?(\*{0,2}\w+)`?(?:[ \t]*:.*)?$")
_GOOGLE_NAME = re.compile(
    r"^[ \t]*(?:[-*][ \t]+)?`{0,2}(\*{0,2}[\w.]+)`{0,2}[ \t]*"
    r"(?:\((?:[^()\n]|\([^()\n]*\))*\))?[ \t]*(?::|--| - )[ \t]*(.*)$"
)
_TYPE = re.compile(
    r"^(?:`[^`\n]+`(?:,? or `[^`\n]+`)*|[A-Za-z_][\w.]*(?:\[[^\n:]*\])?)[ \t]*(?:\([^()\n]*\))?:\s+(?=\S)"
)
_BARE_PARAMETER = re.compile(r"^[ \t]*`?\*{0,2}\w+`? \((?:[^()\n]|\([^\n]*\))*\):")
_SIGNATURE = re.compile(r"^`?[\w.]+\(.*\)`?(?:[ \t]*(?:->|=|:)[^\n]*)?$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter, exception or return value, as lines of the cleaned docstring."""

    name: str
    lines: tuple[str, ...]
    """As they stand, the name's line first."""
    meaning: tuple[str, ...]
    """Its sentences, each on one line."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of entries under a header (no header in the Sphinx style)."""

    header: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring, taken apart."""

    paragraphs: tuple[str, ...]
    """Prose before the first section, lines as they stand; code and tables are left out."""
    parameters: Section | None
    returns: Section | None
    raises: Section | None


def clean(text: str, longest: int | None = LONGEST) -> str:
    """The text without markup: roles, links, directives and fences gone, code in single backticks.

    ``:class:`~x.Y``` becomes ```Y```, ``[`Name`]`` becomes ```Name```, double backticks become single ones.
    """
    text = text[:longest]
    if "```" in text:
        text = _FENCE.sub("", text)
    if ".. " in text:
        text = _DIRECTIVE.sub("", text)
    if ":`" in text:
        text = _ROLE.sub(_role, text)
    if "``" in text:
        text = _DOUBLE.sub(r"`\1`", text)
    if "`_" in text:
        text = _REFERENCE.sub(r"\1", _LINK.sub(r"\1", text))
    if "[`" in text:
        text = _BRACKET.sub(_bracket, text)
    if "](" in text:
        text = _WEB.sub(r"\1", text)
    if "*" in text:
        text = _BOLD.sub(r"\1", text)
        text = _ITALIC.sub(lambda m: f"({m[3]}" if m[3] else m[1] or m[2], text)
    if "]_" in text:
        text = _FOOTNOTE.sub("", text)
    if "<" in text:
        text = _TAG.sub("", text)
    return _ESCAPE.sub(lambda m: m[1] or "", text).replace("::\n", ":\n")


def parse(docstring: str) -> Docstring:
    """The parts of a cleaned docstring (`clean`). Parts that are not there are None."""
    sections: dict[str, Section] = {}
    end = len(docstring)
    for headers, entries in ((_NUMPY_HEADER, _numpy_entries), (_GOOGLE_HEADER, _google_entries)):
        for place, following in _spans(headers, docstring):
            kind = _KINDS.get(place[1].strip().lower())
            known = kind is not None or headers is _NUMPY_HEADER or docstring[place.end() : place.end() + 2] == "\n "
            if not known:
                continue
            end = min(end, place.start())
            if kind is not None and kind not in sections:
                found = entries(_block(docstring[place.end() + 1 : following]), kind)
                if found:
                    sections[kind] = Section(tuple(place[0].splitlines()), found)
    if not sections:
        end = min(end, _read_fields(docstring, sections))
    return Docstring(
        _prose(docstring[:end]), sections.get("parameters"), sections.get("returns"), sections.get("raises")
    )


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[re.Match[str], int]]:
    """The matches, each with where the next one begins."""
    places = list(pattern.finditer(text))
    return list(zip(places, [*[place.start() for place in places[1:]], len(text)], strict=False))


def _role(match: re.Match[str]) -> str:
    mark, text, target = match[1], match[2], match[3]
    if target is not None and text:
        return text if " " in text else f"`{text}`"
    name = (target or text).strip()
    if mark == "~":
        name = name.rsplit(".", 1)[-1]
    role = match[0][1 : match[0].index("`") - 1].rsplit(":", 1)[-1]
    return name if role in ("ref", "doc", "term", "pep", "rfc", "issue") else f"`{name}`"


def _bracket(match: re.Match[str]) -> str:
    name = match[1]
    return f"`{name.rsplit('.', 1)[-1] if match[0][2] == '~' else name}`"


def _block(text: str) -> list[str]:
    """The lines of a section, up to a second blank line in a row or the end of its indented block."""
    lines = text.rstrip().split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    return lines


def _numpy_entries(lines: Sequence[str], kind: str) -> tuple[Entry, ...]:
    found: list[Entry] = []
    place = 0
    while place < len(lines):
        start = place
        place += 1
        while place < len(lines) and (not lines[place].strip() or lines[place][:1] in " \t"):
            place += 1
        entry = _trim(lines[start:place])
        name = _NUMPY_NAME.match(entry[0])
        if len(entry) > 1:
            found.append(Entry(name[1] if name else "", entry, _meaning("\n".join(entry[1:]))))
        elif kind == "returns":
            return (Entry("", _trim(lines), _meaning("\n".join(lines))),)
        else:
            found.append(Entry(name[1] if name else "", entry, ()))
    return tuple(found)


def _google_entries(lines: Sequence[str], kind: str) -> tuple[Entry, ...]:
    if not lines or _indent(lines[0]) == 0:
        return ()
    width = _indent(lines[0])
    inside = 0
    while inside < len(lines) and (not lines[inside].strip() or _indent(lines[inside]) >= width):
        inside += 1
    lines = lines[:inside]
    if kind == "returns":
        body = "\n".join(line[width:] for line in lines)
        return (Entry("", _trim(lines), _meaning(_TYPE.sub("", body, count=1))),)
    starts = [n for n, line in enumerate(lines) if line.strip() and _indent(line) == width]
    found: list[Entry] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        entry = _trim(lines[start:end])
        name = _GOOGLE_NAME.match(entry[0])
        if name is None:
            found.append(Entry("", entry, ()))
        else:
            found.append(Entry(name[1], entry, _meaning("\n".join((name[2], *entry[1:])))))
    return tuple(found)


def _read_fields(docstring: str, sections: dict[str, Section]) -> int:
    """Fills in the sections of the Sphinx style; gives where its first field begins."""
    places = _spans(_SPHINX_FIELD, docstring)
    entries: dict[str, list[Entry]] = {}
    for place, following in places:
        kind = _KINDS.get(place[1].lower())
        if kind is None:
            continue
        first, *rest = docstring[place.start() : following].rstrip().split("\n")
        stop = next((n for n, line in enumerate(rest) if not line.strip() or line[:1] not in " \t"), len(rest))
        lines = (first, *rest[:stop])
        name = (place[2] or "").split()
        meaning = "\n".join((first[place.end() - place.start() :], *rest[:stop]))
        entries.setdefault(kind, []).append(Entry(name[-1].strip("`~") if name else "", lines, _meaning(meaning)))
    for kind, found in entries.items():
        sections[kind] = Section((), tuple(found))
    return places[0][0].start() if places else len(docstring)


def _meaning(text: str) -> tuple[str, ...]:
    """The sentences of the first paragraph that is prose."""
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            lines = paragraph.strip().split("\n")
            stop = next(
                (n for n, line in enumerate(lines) if line.lstrip().startswith((">>>", "- ", "* ", "+--"))), None
            )
            return tuple(sentences("\n".join(lines[:stop])))
    return ()


def _prose(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text.strip()):
        lines = paragraph.rstrip().lstrip("\n")
        start = lines.lstrip()
        if not start or start.startswith((">>>", "...", "$ ", "- ", "* ", "+-", "==", "|", "@", "#", ":")):
            continue
        if _BARE_PARAMETER.match(lines):
            continue
        if lines[:1] in " \t" or _SIGNATURE.match(" ".join(lines.split())) or "\n---" in lines or "\n===" in lines:
            continue
        found.append(lines)
    return tuple(found)


def _trim(lines: Sequence[str]) -> tuple[str, ...]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return tuple(line.rstrip() for line in lines[:end])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
