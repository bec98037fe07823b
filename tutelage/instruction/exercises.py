"""Questions about the documentation of a Python object, with answers that stand in it word for word.

From reading, where the text stands in the question and a small model can learn to find the answer: `parameter`,
`returns`, `exception`, `kind`, `shorten`. From recall, where it does not: `purpose`, and `which`, a choice among names.
The texts are short, at most `LONGEST_TEXT` characters: the heading and whole lines of the docstring, always those that
hold the answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tutelage.instruction.docstrings import Docstring, Entry, Section, clean, parse
from tutelage.records import Document, Split
from tutelage.sentences import balanced, is_chinese, join, sentences

LONGEST_TEXT = 500
"""Characters of a text in a question, at most."""
LONGEST_HEADING = 120
CHOICES = 4
"""Names to choose among, at most, in a question that asks for one."""
ANSWER_LENGTHS = range(8, 201)
"""Characters of an answer."""
KINDS = ("function", "class", "method", "module")
"""The kinds of Python object that are asked about."""
TASKS = ("parameter", "returns", "exception", "kind", "shorten", "purpose", "which")

_WHOLE = frozenset({"kind", "shorten", "purpose", "which"})
_USELESS = re.compile(r"^(?:see|deprecated|todo|refer to|alias|same as|inherited|not implemented)\b", re.IGNORECASE)
_MARKS = re.compile(r">>>|->|https?:|\|\||===|---|\.\.\. |\{\{|\$|::|\\|@|`\w+:`|<[A-Za-z_]+>|[{}\u2502\u2500]|^\W*$")
_ENTRY = re.compile(r"(?:^|\s)[\w`.]+ \([^)]*\): |^\w+ : |^\([^)]*\)[^:]{0,30}: ")
_LETTER = re.compile(r"[^\W\d_]")
_START = re.compile(r"[\w`\"'“「《]")
_EXCEPTION_NAME = re.compile(
    r"\b(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Iteration|Warning|Exit|NotFound)\b"
)
_RAISES = re.compile(r"\b[Rr]ais(?:es?|ed|ing)\b")
_NOT_RAISED = re.compile(
    r"\b(?:not|never|without|instead of|no longer|rather than)\b[^.]{0,20}\brais|n't rais|catch|handle"
)
_PYTHON_NAME = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A question without its wording, and its answer."""

    task: str
    form: str = ""
    """Which set of wordings, where a task has several."""
    language: Literal["en", "zh"] = "en"
    document: str
    split: Split
    subject: str
    """What is asked about, "" for a plain text."""
    slots: dict[str, str] = field(default_factory=dict)
    """What the wordings are filled with."""
    reference: str
    """The answer: one sentence that ends with a full stop."""
    more: tuple[str, ...] = ()
    """The sentences that follow it in the document."""

    @property
    def question(self) -> tuple[str, ...]:
        """The same for two exercises that ask the same, whatever the wording."""
        return (self.task, self.form, *(self.slots[name] for name in sorted(self.slots)))


def is_python(document: Document) -> bool:
    """Whether the document is the documentation of a Python object."""
    return document.metadata.get("kind") in KINDS and bool(document.metadata.get("name"))


def answer(sentence: str, whole: bool = False) -> str | None:
    """The sentence as an answer, or None where it makes a bad one.

    A good one has 8 to 200 characters, is prose, closes its brackets and backticks, and is one sentence. A full stop
    that the writer left out is added, unless the sentence must be ``whole``.
    """
    sentence = sentence.strip()
    if not sentence or not _START.match(sentence):
        return None
    chinese = is_chinese(sentence)
    if sentence[-1] not in ".。":
        if whole or sentence[-1] in ",，;；:：!?！？…-=/*" or sentence[-2:-1] in ".!?。！？":
            return None
        sentence += "。" if chinese else "."
    if len(sentence) not in ANSWER_LENGTHS or sentence.endswith("..") or _USELESS.match(sentence):
        return None
    if _MARKS.search(sentence) or not balanced(sentence) or len(sentences(sentence)) != 1:
        return None
    letters = len(_LETTER.findall(sentence))
    return sentence if letters * 10 >= len(sentence) * 6 else None


def following(found: Sequence[str]) -> tuple[str, ...]:
    """The second and the third of some sentences, as far as they are good prose."""
    good: list[str] = []
    for sentence in found[1:3]:
        if answer(sentence, whole=True) is None:
            break
        good.append(sentence)
    return tuple(good)


def of_python(
    document: Document,
    wanted: Collection[str],
    rng: random.Random,
    limit: int,
    siblings: Collection[str] = (),
    ambiguous: bool = False,
) -> Iterator[Exercise]:
    """The exercises of a Python object's documentation, of the wanted tasks, at most ``limit`` of a task.

    ``siblings``: the names of other objects of its kind in the same module or class, for `which` to choose among.
    ``ambiguous``: one of them is described alike, so that `which` has no single answer.
    """
    heading, _, body = document.text.partition("\n")
    may_raise = "exception" in wanted and "aise" in body
    may_return = "returns" in wanted and "eturn" in body
    if not (may_raise or may_return or (_WHOLE | {"parameter"}) & set(wanted)):
        return
    maker = _Maker(document, _short(heading, document.metadata["name"]), parse(clean(body.strip("\n"))), rng)
    if "parameter" in wanted:
        yield from maker.parameters(limit)
    if may_return:
        yield from maker.returns()
    if may_raise:
        yield from maker.exceptions(limit)
    # A later piece of a long docstring begins in its middle.
    if _WHOLE & set(wanted) and document.metadata.get("part", "1").partition("/")[0] == "1":
        yield from (exercise for exercise in maker.whole(siblings, ambiguous) if exercise.task in wanted)


@dataclass(frozen=True, slots=True)
class _Maker:
    document: Document
    heading: str
    docstring: Docstring
    rng: random.Random

    def parameters(self, limit: int) -> Iterator[Exercise]:
        section = self.docstring.parameters
        if section is None:
            return
        names = [entry.name for entry in section.entries]
        places = [n for n, entry in enumerate(section.entries) if entry.name and entry.meaning]
        self.rng.shuffle(places)
        made = 0
        for place in places:
            entry = section.entries[place]
            reference = answer(entry.meaning[0])
            text = self._window(section, place, reference) if reference and names.count(entry.name) == 1 else None
            if reference and text:
                slots = {"parameter": entry.name.lstrip("*"), "text": text}
                yield self._exercise("parameter", reference, following(entry.meaning), slots)
                made += 1
                if made == limit:
                    return

    def returns(self) -> Iterator[Exercise]:
        section = self.docstring.returns
        if section is None or len(section.entries) != 1 or not section.entries[0].meaning:
            return
        entry = section.entries[0]
        reference = answer(entry.meaning[0])
        text = self._window(section, 0, reference) if reference else None
        if reference and text and not _ENTRY.search(reference):
            yield self._exercise("returns", reference, following(entry.meaning), {"text": text})

    def exceptions(self, limit: int) -> Iterator[Exercise]:
        section = self.docstring.raises
        if section is None:
            yield from self._prose_exception()
            return
        entries = [entry for entry in section.entries if _PYTHON_NAME.match(entry.name)]
        if len(section.entries) == 1 and entries:
            text = self._window(section, 0, None)
            if text:
                yield self._exception(entries[0].name, "", {"text": text})
            return
        made = 0
        for place, entry in enumerate(section.entries):
            case = answer(entry.meaning[0]) if entry.meaning and entry in entries else None
            same = [e for e in section.entries if e.meaning[:1] == entry.meaning[:1]]
            text = self._window(section, place, case) if case and len(same) == 1 else None
            if case and text and made < limit:
                yield self._exception(entry.name, "when", {"text": text, "case": case})
                made += 1

    def _prose_exception(self) -> Iterator[Exercise]:
        for paragraph in self.docstring.paragraphs:
            names = set(_EXCEPTION_NAME.findall(paragraph)) if _RAISES.search(paragraph) else set[str]()
            if len(names) != 1 or _NOT_RAISED.search(paragraph) or _EXCEPTION_NAME.search(self.heading):
                continue
            text = f"{self.heading}\n\n{paragraph}"
            if len(text) <= LONGEST_TEXT:
                yield self._exception(names.pop(), "", {"text": text})
                return

    def _exception(self, name: str, form: str, slots: dict[str, str]) -> Exercise:
        return self._exercise("exception", f"It raises `{name}`.", (), slots, form)

    def whole(self, siblings: Collection[str], ambiguous: bool) -> Iterator[Exercise]:
        """What is asked of the object as a whole: kind, shorten, purpose, which."""
        if not self.docstring.paragraphs:
            return
        metadata = self.document.metadata
        name, kind = metadata["name"], metadata["kind"]
        found = sentences(self.docstring.paragraphs[0])
        text, shown = self._opening()
        if text:
            verb = f"`{name}` is a {kind}."
            yield self._exercise("kind", verb, (), {"name": name, "text": text})
        reference = answer(found[0])
        if reference is None:
            return
        if text and shown >= 2:
            yield self._exercise("shorten", reference, self._following(shown), {"text": text})
        if len(reference.split()) >= 3:
            yield self._exercise("purpose", reference, self._following(3), {"kind": kind, "name": name})
        parent, _, own = name.rpartition(".")
        if kind != "module" and parent and siblings and not ambiguous and len(reference.split()) >= 4:
            place = "class" if kind == "method" else "module"
            choices = self._choices(own, siblings)
            slots = {"kind": kind, "parent": f"{place} `{parent}`", "sentence": reference, "choices": choices}
            yield self._exercise("which", f"`{own}`.", (), slots)

    def _choices(self, own: str, siblings: Collection[str]) -> str:
        """The object's own name among those of some siblings: "`a`, `b` or `c`"."""
        others = self.rng.sample(sorted(set(siblings) - {own}), min(CHOICES - 1, len(set(siblings) - {own})))
        *first, last = (f"`{name}`" for name in self.rng.sample([own, *others], len(others) + 1))
        return f"{', '.join(first)} or {last}"

    def _opening(self) -> tuple[str, int]:
        """The heading with as many whole paragraphs as fit, or sentences of the first; and how many sentences."""
        text = self.heading + "\n"
        shown = 0
        for paragraph in self.docstring.paragraphs:
            if len(text) + len(paragraph) + 1 > LONGEST_TEXT:
                break
            text += "\n" + paragraph + "\n"
            shown += len(sentences(paragraph))
        if shown:
            return text.rstrip(), shown
        for sentence in sentences(self.docstring.paragraphs[0]):
            if len(text) + len(sentence) + 1 > LONGEST_TEXT:
                break
            text += ("\n" if not shown else " ") + sentence
            shown += 1
        return (text, shown) if shown else ("", 0)

    def _following(self, shown: int) -> tuple[str, ...]:
        """The second and third sentence of the prose, of those shown."""
        found = [sentence for paragraph in self.docstring.paragraphs[:2] for sentence in sentences(paragraph)]
        return following(found[:shown])

    def _window(self, section: Section, place: int, needed: str | None) -> str | None:
        """The heading, the section's header and the entry with as many of its neighbours as fit.

        An entry that is too long keeps its first lines, as many as the needed sentence takes.
        """
        head = "\n".join((self.heading, "", *section.header))
        room = LONGEST_TEXT - len(head) - 1
        lines = _lines_with(section.entries[place], needed, room)
        if lines and section is not self.docstring.parameters and self.docstring.paragraphs and self.rng.random() < 0.5:
            # A distraction: the answer is not always the first thing after the heading.
            longer = "\n".join((self.heading, "", self.docstring.paragraphs[0], "", *section.header))
            if len(longer) + sum(len(line) + 1 for line in lines) < LONGEST_TEXT:
                head, room = longer, LONGEST_TEXT - len(longer) - 1
        if lines is None:
            return None
        low, high = place, place + 1
        blocks = [lines]
        used = sum(len(line) + 1 for line in lines)
        whole = len(lines) == len(section.entries[place].lines)
        sides = ["after", "before"] if whole else ["before"]
        while sides:
            side = self.rng.choice(sides)
            following = low - 1 if side == "before" else high
            if not 0 <= following < len(section.entries):
                sides.remove(side)
                continue
            block = section.entries[following].lines
            size = sum(len(line) + 1 for line in block)
            if used + size > room:
                sides.remove(side)
                continue
            used += size
            low, high = min(low, following), max(high, following + 1)
            blocks = [block, *blocks] if side == "before" else [*blocks, block]
        return "\n".join((head, *(line for block in blocks for line in block)))

    def _exercise(
        self, task: str, reference: str, more: Sequence[str], slots: dict[str, str], form: str = ""
    ) -> Exercise:
        return Exercise(
            task=task, form=form, document=self.document.id, split=self.document.split,
            subject=self.document.metadata["name"], slots=slots, reference=reference, more=tuple(more),
        )  # fmt: skip


def _lines_with(entry: Entry, needed: str | None, room: int) -> tuple[str, ...] | None:
    """The entry's lines, or its first ones as far as the needed sentence goes; None if they take too much room."""
    if sum(len(line) + 1 for line in entry.lines) <= room:
        return entry.lines
    if needed is None:
        return None
    used = 0
    for count, line in enumerate(entry.lines, start=1):
        used += len(line) + 1
        if used > room:
            return None
        if needed[:-1] in join("\n".join(entry.lines[:count])):
            return entry.lines[:count]
    return None


def _short(heading: str, name: str) -> str:
    heading = heading.strip()
    return heading if len(heading) <= LONGEST_HEADING else f"{name}(...)"
