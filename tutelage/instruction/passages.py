"""Questions about any plain text, English or Chinese, with answers that stand in it word for word.

A text is cut into short passages of whole paragraphs or sentences. Four tasks, all from reading: `shorten` (its first
sentence), `quote` (the sentence with a word in it), `follows` (the sentence after a sentence), and `title`, where the
source knows one that stands in the text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from typing import Literal

from tutelage.instruction.docstrings import clean
from tutelage.instruction.exercises import LONGEST_TEXT, Exercise, answer, following
from tutelage.records import Document
from tutelage.sentences import STOP_WORDS, is_chinese, sentences

TASKS = ("shorten", "quote", "follows", "title")
LONGEST_CHINESE = 240
"""Characters of a Chinese passage, at most: a character says more than a letter."""
LONGEST_SENTENCE = 120
"""Characters of a sentence that stands in a question, at most."""

_BLANK = re.compile(r"\n[ \t]*\n")
_ENDS = re.compile(r"[.!?:。！？：…][\"')\]”』」）`]*$")
_ENGLISH_WORD = re.compile(r"[A-Za-z]{4,}")
_HAN_PHRASE = re.compile(r"(?:^|(?<=[，：；、“（《 ]))[\u3400-\u9fff]{4}")


def language(document: Document) -> Literal["en", "zh"]:
    """In which language to ask about the document."""
    if document.language in ("en", "zh"):
        return "zh" if document.language == "zh" else "en"
    return "zh" if is_chinese(document.text[:2000]) else "en"


def of_text(document: Document, wanted: Collection[str], rng: random.Random, limit: int) -> Iterator[Exercise]:
    """The exercises of a plain text, of the wanted tasks, at most ``limit`` passages of it."""
    tongue = language(document)
    longest = LONGEST_TEXT if tongue == "en" else LONGEST_CHINESE
    text = clean(document.text, None)
    if "title" in wanted:
        yield from _title(document, text, tongue, longest)
    passages = cut(text, longest)
    rng.shuffle(passages)
    for passage in passages[:limit]:
        found = sentences(passage)
        if len(found) < 2:
            continue
        made = (_shorten(passage, found), _quote(passage, found, rng), _follows(passage, found, rng))
        for exercise in made:
            if exercise is not None and exercise[0] in wanted:
                task, reference, more, slots = exercise
                yield Exercise(
                    task=task, form="plain" if task == "shorten" else "", language=tongue, document=document.id,
                    split=document.split, subject=document.metadata.get("name", ""), slots=slots,
                    reference=reference, more=more,
                )  # fmt: skip


def cut(text: str, longest: int) -> list[str]:
    """Passages of at most ``longest`` characters: whole paragraphs, or whole sentences of a long one.

    Paragraphs that are no prose (code, tables, headings) end a passage and are left out.
    """
    passages: list[str] = []
    current = ""
    for paragraph in _BLANK.split(text):
        paragraph = paragraph.strip("\n")
        pieces = [paragraph] if len(paragraph) <= longest else _packed(sentences(paragraph), longest)
        for piece in pieces if _is_prose(paragraph) else [""]:
            joined = f"{current}\n\n{piece}" if current and piece else piece
            if piece and len(joined) <= longest and len(pieces) == 1:
                current = joined
                continue
            if current:
                passages.append(current)
            current = piece
    return [*passages, current] if current else passages


Found = tuple[str, str, tuple[str, ...], dict[str, str]]


def _title(document: Document, text: str, tongue: Literal["en", "zh"], longest: int) -> Iterator[Exercise]:
    """The title, asked with the beginning of the text, whole lines of it, if it stands there."""
    title = document.metadata.get("title", "").strip()
    opening = text.strip()
    if len(opening) > longest:
        opening = opening[:longest].rpartition("\n")[0].rstrip()
    if (
        not 2 <= len(title) <= 80
        or not any(character.isalnum() for character in title)
        or title not in opening
        or title == opening
        or any(mark in title for mark in '"《》\n{}<>`')
    ):
        return
    yield Exercise(
        task="title", language=tongue, document=document.id, split=document.split, subject=title,
        slots={"text": opening}, reference=f"标题是《{title}》。" if tongue == "zh" else f'The title is "{title}".',
    )  # fmt: skip


def _shorten(passage: str, found: list[str]) -> Found | None:
    reference = answer(found[0], whole=True)
    return ("shorten", reference, following(found), {"text": passage}) if reference else None


def _quote(passage: str, found: list[str], rng: random.Random) -> Found | None:
    place = rng.randrange(len(found))
    reference = answer(found[place], whole=True)
    if reference is None:
        return None
    lower = passage.lower()
    if is_chinese(reference):
        words = [phrase for phrase in _HAN_PHRASE.findall(reference) if lower.count(phrase) == 1]
    else:
        words = [word for word in _ENGLISH_WORD.findall(reference) if word.lower() not in STOP_WORDS]
        words = [word for word in words if lower.count(word.lower()) == 1]
    if not words:
        return None
    return "quote", reference, following(found[place:]), {"text": passage, "word": rng.choice(words)}


def _follows(passage: str, found: list[str], rng: random.Random) -> Found | None:
    place = rng.randrange(len(found) - 1)
    reference = answer(found[place + 1], whole=True)
    before = found[place]
    if (
        reference is None
        or answer(before, whole=True) is None
        or len(before) > LONGEST_SENTENCE
        or found.count(before) > 1
    ):
        return None
    return "follows", reference, following(found[place + 1 :]), {"text": passage, "sentence": before}


def _packed(found: list[str], longest: int) -> list[str]:
    """Sentences, packed into pieces that are not too long; what is too long alone or a heading is left out."""
    pieces: list[str] = []
    for sentence in found:
        if len(sentence) > longest or not _ENDS.search(sentence):
            continue
        gap = "" if is_chinese(sentence) else " "
        if pieces and len(pieces[-1]) + len(gap) + len(sentence) <= longest:
            pieces[-1] += gap + sentence
        else:
            pieces.append(sentence)
    return pieces


def _is_prose(paragraph: str) -> bool:
    start = paragraph.lstrip()
    if not start or paragraph[:1] in " \t" or start.startswith((">>>", "|", "+-", "- ", "* ", "#", "$", "==", "--")):
        return False
    if not _ENDS.search(paragraph.rstrip()):
        return False
    if "\n---" in paragraph or "\n===" in paragraph or "\n***" in paragraph:
        return False
    letters = sum(character.isalpha() for character in paragraph)
    visible = len(paragraph) - paragraph.count(" ") - paragraph.count("\n")
    return letters * 10 >= visible * 7
