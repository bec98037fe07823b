"""The wordings of the exercises, in English and Chinese, and the styles of the answers.

Every task has several wordings; which one was used stands in ``metadata["template"]``. Real documentation is written
in more than one style, and so are the answers here: a *tidy* answer is one sentence with its full stop, an *untidy* one
goes on with the sentences that follow, or begins with one that says nothing, or lacks its full stop. Preferences are
learned from the difference; ``metadata["reference"]`` always holds the tidy answer, which the judge compares with.
"""

from __future__ import annotations

import random

from tutelage import records
from tutelage.instruction.exercises import Exercise
from tutelage.records import Conversation, Message

UNTIDY_TASKS = frozenset({"parameter", "returns", "shorten", "purpose", "quote", "follows"})
"""The tasks whose answers are sentences of the text; those of the others are keys such as a name."""

WORDINGS: dict[str, tuple[str, ...]] = {
    "parameter": (
        "{text}\n\nWhat does the parameter `{parameter}` mean?",
        "What is the parameter `{parameter}` for?\n\n{text}",
        "Here is some documentation:\n\n{text}\n\nExplain the parameter `{parameter}`.",
        "Read this and say what `{parameter}` is.\n\n{text}",
    ),
    "returns": (
        "{text}\n\nWhat does it return?",
        "What is returned, according to this documentation?\n\n{text}",
        "Read this and describe the return value.\n\n{text}",
    ),
    "exception": (
        "{text}\n\nWhich exception does it raise?",
        "Which exception is raised, according to this text?\n\n{text}",
        "Read this and name the exception that it can raise.\n\n{text}",
    ),
    "exception when": (
        '{text}\n\nWhich exception is raised in this case: "{case}"',
        'Which exception does the text name for this case: "{case}"\n\n{text}',
    ),
    "kind": (
        "{text}\n\nWhat kind of object is `{name}`?",
        "Is `{name}` a function, a class, a method or a module?\n\n{text}",
        "Read this and say what kind of object `{name}` is.\n\n{text}",
    ),
    "shorten": (
        "{text}\n\nShorten this to one sentence.",
        "Say in one sentence what this documentation says.\n\n{text}",
        "Summarise this in one sentence:\n\n{text}",
    ),
    "shorten plain": (
        "{text}\n\nShorten this to its first sentence.",
        "Give the first sentence of this text.\n\n{text}",
        "Read this and answer with its first sentence:\n\n{text}",
    ),
    "purpose": (
        "What does the {kind} `{name}` do?",
        "What is `{name}` for?",
        "Explain `{name}` in one sentence.",
        "I found `{name}` in some code. What is it?",
    ),
    "which": (
        'Which {kind} of the {parent} does this: "{sentence}" Is it {choices}?',
        'I need a {kind} of the {parent}. It is described so: "{sentence}" Is it called {choices}?',
        'In the {parent}, which {kind} is described as follows? "{sentence}" Choose among {choices}.',
    ),
    "quote": (
        '{text}\n\nWhich sentence contains the word "{word}"?',
        'Copy the sentence with the word "{word}" in it.\n\n{text}',
        'Find the sentence that mentions "{word}":\n\n{text}',
    ),
    "follows": (
        '{text}\n\nWhich sentence comes right after this one: "{sentence}"',
        'Copy the sentence that follows "{sentence}"\n\n{text}',
    ),
    "title": (
        "{text}\n\nWhat is the title of this text?",
        "Read this and give its title.\n\n{text}",
    ),
    "zh shorten plain": (
        "{text}\n\n请用第一句话概括上面这段文字。",
        "请用一句话概括下面的文字，用它的第一句。\n\n{text}",
        "下面这段文字的第一句是什么？\n\n{text}",
    ),
    "zh quote": (
        "{text}\n\n上面哪一句话里有“{word}”这几个字？请照抄。",
        "请抄出含有“{word}”的那一句。\n\n{text}",
        "在下面的文字里找出提到“{word}”的句子：\n\n{text}",
    ),
    "zh follows": (
        "{text}\n\n“{sentence}”的下一句是什么？",
        "请抄出“{sentence}”后面的一句。\n\n{text}",
    ),
    "zh title": (
        "{text}\n\n这段文字的标题是什么？",
        "读下面的文字，说出它的标题。\n\n{text}",
    ),
}  # fmt: skip
"""The wordings of a task and form; those in Chinese begin with "zh"."""

LEADS = {
    "en": (
        "This is described in the documentation.",
        "The documentation has this to say.",
        "There is a note about this.",
    ),
    "zh": ("这在文中有说明。", "文中是这样写的。", "关于这一点，文中提到过。"),
}
"""Beginnings that name nothing."""


def conversation(exercise: Exercise, rng: random.Random, untidy: float = 0.0) -> Conversation:
    """The exercise, worded; its answer is untidy with the probability ``untidy``."""
    key = " ".join(part for part in ("zh" if exercise.language == "zh" else "", exercise.task, exercise.form) if part)
    number = rng.randrange(len(WORDINGS[key]))
    loose = exercise.task in UNTIDY_TASKS and rng.random() < untidy
    content = untidied(exercise, rng) if loose else exercise.reference
    prompt = WORDINGS[key][number].format(**exercise.slots)
    template = f"{key} {number + 1}"
    return Conversation(
        id=records.identify("template", template, exercise.document, prompt, content),
        messages=(Message(role="user", content=prompt), Message(role="assistant", content=content)),
        judge="rule", rater="template", task=exercise.task, documents=(exercise.document,), split=exercise.split,
        metadata={
            "template": template, "style": "untidy" if loose else "tidy", "subject": exercise.subject,
            "language": exercise.language, "reference": exercise.reference,
        },
    )  # fmt: skip


def untidied(exercise: Exercise, rng: random.Random) -> str:
    """The answer in one of the untidy styles, all of them made of the document's own sentences."""
    style = rng.choice(("longer", "longer", "lead", "open") if exercise.more else ("lead", "open"))
    gap = "" if exercise.language == "zh" else " "
    if style == "longer":
        return gap.join((exercise.reference, *exercise.more[: rng.randint(1, 2)]))
    if style == "lead":
        return rng.choice(LEADS[exercise.language]) + gap + exercise.reference
    return exercise.reference[:-1]
