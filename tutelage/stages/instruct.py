"""documents -> conversations: questions about them by templates, and answers that stand in them

Documentation of Python objects is asked about by `instruction.exercises`, any other text by `instruction.passages`;
`instruction.templates` words the questions. A held-out question is about a held-out document, and three filters see to
it that its answer was not learned by another way: no training document has the same text, no answer of more than
`LONGEST_KEY` characters equals an answer in training, no prompt equals a prompt in training.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tutelage import records
from tutelage.errors import RecordError
from tutelage.evaluation import judge
from tutelage.instruction import exercises, identity, passages, templates
from tutelage.instruction.exercises import Exercise
from tutelage.records import Conversation, Document, Split
from tutelage.run import Run, write_json
from tutelage.sentences import counted
from tutelage.settings import Input

MAKES = "conversations"

LONGEST_KEY = 40
"""Characters up to which the same answer may stand in training: "It raises `ValueError`." is nobody's secret."""
SAME_BEGINNING = 60
"""Characters. Two objects of one module whose descriptions begin with the same ones cannot be told apart by it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which documents, how many questions, and how their answers are written."""

    documents: Annotated[Path, Input("documents")]
    """The documents to ask about: what `prepare` made, or a JSONL or Parquet file of them."""
    per_task: Annotated[int, Field(gt=0)] = 4000
    """Training conversations of a task, at most; tasks that have more are sampled."""
    held_out_per_task: Annotated[int, Field(ge=0)] = 100
    """Held-out conversations of a task, at most."""
    untidy: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of the training answers that are written in the untidy styles of real documentation: several
    sentences, an empty beginning, no full stop. Feedback later has something to teach. Held-out answers are tidy."""
    name: str = "Tutor"
    """What the model calls itself; empty for no such conversations."""
    author: str = "you"
    """Who trained it, as it says itself."""
    seed: int = 1
    """The same seed and documents give the same conversations."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes ``conversations.jsonl`` (split train), ``held_out.jsonl`` and ``samples.json``.

    Raises:
        RecordError: the documents give no question, or no held-out one though some are wanted.
    """
    documents = list(run.progress(records.read(recipe.documents, Document), "reading"))
    by_split: dict[Split, list[Document]] = {"train": [], "held_out": []}
    for document in documents:
        by_split[document.split].append(document)
    left_out: Counter[str] = Counter()

    train = _Desk(recipe.per_task, random.Random(recipe.seed), recipe.untidy, left_out)
    train.ask(by_split["train"], run, "asking")
    training = train.taken()
    if not training:
        raise RecordError(
            f"{recipe.documents}: none of the {len(by_split['train'])} training documents gives a question: "
            "they need prose of two sentences or more"
        )
    languages = {conversation.metadata["language"] for conversation in training}
    training += identity.conversations(recipe.name, recipe.author, languages)
    random.Random(recipe.seed).shuffle(training)

    held_out: list[Conversation] = []
    if recipe.held_out_per_task:
        desk = _Desk(recipe.held_out_per_task, random.Random(recipe.seed + 1), 0.0, left_out, _Learned.of(training))
        texts = {_print(document) for document in by_split["train"]}
        unseen = [document for document in by_split["held_out"] if _print(document) not in texts]
        left_out["held-out document with the text of a training document"] += len(by_split["held_out"]) - len(unseen)
        desk.ask(unseen, run, "asking, held out")
        held_out = desk.taken()
        if not held_out:
            raise RecordError(
                f"{recipe.documents}: none of the {len(by_split['held_out'])} held-out documents gives a question: "
                "prepare with more held out, or set held_out_per_task: 0"
            )
    _write(run, training, held_out, left_out)


@dataclass(frozen=True, slots=True)
class _Learned:
    """What training shows: nothing held out may repeat it."""

    prompts: frozenset[str]
    answers: frozenset[str]

    @classmethod
    def of(cls, training: list[Conversation]) -> _Learned:
        answers = {normalised(conversation.answer or "") for conversation in training}
        answers |= {normalised(conversation.metadata["reference"]) for conversation in training}
        return cls(frozenset(conversation.prompt[0].content for conversation in training), frozenset(answers))

    def repeated_by(self, conversation: Conversation) -> bool:
        reference = conversation.metadata["reference"]
        same = len(reference) > LONGEST_KEY and normalised(reference) in self.answers
        return same or conversation.prompt[0].content in self.prompts


@dataclass(slots=True)
class _Desk:
    """Collects the conversations of one split, at most ``cap`` of a task."""

    cap: int
    rng: random.Random
    untidy: float
    left_out: Counter[str]
    learned: _Learned | None = None
    found: dict[str, list[tuple[tuple[str, ...], Conversation]]] = field(default_factory=dict)
    asked: dict[tuple[str, ...], str] = field(default_factory=dict)
    two_answers: set[tuple[str, ...]] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)

    def ask(self, documents: list[Document], run: Run, description: str) -> None:
        """Goes through the documents in a shuffled order until every task is full."""
        if not documents:
            return
        python = [document for document in documents if exercises.is_python(document)]
        alike = Counter(_beginning(document) for document in python)
        siblings: dict[tuple[str, str], set[str]] = {}
        for document in python:
            siblings.setdefault(_place(document), set()).add(_own_name(document))
        plain = len(documents) - len(python)
        limit = max(3, -(-2 * self.cap // len(documents)))
        passages_each = max(3, -(-2 * self.cap // max(plain, 1)))
        documents = self.rng.sample(documents, len(documents))
        for document in run.progress(documents, description, total=len(documents)):
            wanted = {task for task in (*exercises.TASKS, *passages.TASKS) if len(self.found.get(task, ())) < self.cap}
            if exercises.is_python(document):
                others = siblings[_place(document)] - {_own_name(document)}
                twin = alike[_beginning(document)] > 1
                made = exercises.of_python(document, wanted, self.rng, limit, others, twin)
            else:
                made = passages.of_text(document, wanted, self.rng, passages_each)
            for exercise in made:
                self._take(exercise)

    def taken(self) -> list[Conversation]:
        """The conversations, task by task, without those whose question has two answers."""
        everything = [item for task in sorted(self.found) for item in self.found[task]]
        kept = [conversation for question, conversation in everything if question not in self.two_answers]
        self.left_out["question with two answers"] += len(everything) - len(kept)
        return kept

    def _take(self, exercise: Exercise) -> None:
        mine = self.found.setdefault(exercise.task, [])
        kind = exercise.reference.rpartition(" ")[2] if exercise.task == "kind" else ""
        if len(mine) >= self.cap or (kind and self.kinds[kind] * len(exercises.KINDS) >= self.cap):
            return
        known = self.asked.setdefault(exercise.question, "")
        if known:
            self.left_out["question asked before"] += 1
            if known != exercise.reference:
                self.two_answers.add(exercise.question)
            return
        self.asked[exercise.question] = exercise.reference
        conversation = templates.conversation(exercise, self.rng, self.untidy)
        if self.learned is not None and self.learned.repeated_by(conversation):
            self.left_out["held-out question with an answer or a prompt of training"] += 1
        elif judge.score(conversation, exercise.reference).total < 4:
            self.left_out["answer that the rule itself would not pass"] += 1
        else:
            mine.append((exercise.question, conversation))
            self.kinds[kind] += 1


def normalised(text: str) -> str:
    """The text as it is compared: lower case, one space, no full stop at its end."""
    return " ".join(text.casefold().split()).rstrip(".。")


def _beginning(document: Document) -> tuple[str, str]:
    """Where a Python object lives, and how its description begins."""
    body = document.text.partition("\n")[2]
    return document.metadata["name"].rpartition(".")[0], " ".join(body[:200].split())[:SAME_BEGINNING]


def _place(document: Document) -> tuple[str, str]:
    """The kind of a Python object, and the module or class that it stands in."""
    return document.metadata["kind"], document.metadata["name"].rpartition(".")[0]


def _own_name(document: Document) -> str:
    return document.metadata["name"].rpartition(".")[2]


def _print(document: Document) -> bytes:
    """A fingerprint of the text, of a Python object's without its heading."""
    text = document.text.partition("\n")[2] if exercises.is_python(document) else document.text
    return hashlib.blake2b(normalised(text).encode(), digest_size=16).digest()


def _write(run: Run, training: list[Conversation], held_out: list[Conversation], left_out: Counter[str]) -> None:
    records.write(run.folder / "conversations.jsonl", training)
    if held_out:
        records.write(run.folder / "held_out.jsonl", held_out)
    train_counts = Counter(conversation.task for conversation in training)
    held_counts = Counter(conversation.task for conversation in held_out)
    shown: dict[str, list[dict[str, str]]] = {}
    for conversation in sorted(training, key=lambda c: c.task):
        examples = shown.setdefault(conversation.task, [])
        if len(examples) < 3:
            prompt, answer = conversation.prompt[0].content, conversation.answer or ""
            examples.append({"prompt": prompt, "answer": answer, "style": conversation.metadata["style"]})
    write_json(run.folder / "samples.json", shown)
    untidy = sum(conversation.metadata["style"] == "untidy" for conversation in training)
    run.measure(
        0, conversations=len(training), held_out=len(held_out), untidy=untidy,
        **{f"train/{task}": count for task, count in sorted(train_counts.items())},
        **{f"held_out/{task}": count for task, count in sorted(held_counts.items())},
        **{f"left out/{reason}": count for reason, count in sorted(left_out.items()) if count},
    )  # fmt: skip
    counts = ", ".join(f"{task} {train_counts[task]}+{held_counts[task]}" for task in sorted(train_counts))
    run.note(f"{counted(len(training), 'conversation')}, {len(held_out):,} held out ({counts}; training + held out)")
    for reason, count in sorted(left_out.items()):
        if count:
            run.note(f"left out: {count}: {reason}")
