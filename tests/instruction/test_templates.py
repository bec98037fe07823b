import random
import string

import pytest

from tutelage import records
from tutelage.instruction import exercises, identity, passages, templates
from tutelage.instruction.exercises import Exercise
from tutelage.records import Conversation
from tutelage.sentences import sentences

PARAMETER = Exercise(
    task="parameter", document="d", split="train", subject="json.dumps",
    slots={"text": "json.dumps(obj)\n\nArgs:\n    obj: The {object}.", "parameter": "obj"},
    reference="The object to write.", more=("It may be large.", "It must not contain itself."),
)  # fmt: skip


def test_every_task_has_several_wordings_that_use_all_slots() -> None:
    tasks = {key.removeprefix("zh ").partition(" ")[0] for key in templates.WORDINGS}
    assert tasks == {*exercises.TASKS, *passages.TASKS}
    for key, wordings in templates.WORDINGS.items():
        assert len(wordings) >= 2, key
        assert len(set(wordings)) == len(wordings)
        slots = [{name for _, name, _, _ in string.Formatter().parse(w) if name} for w in wordings]
        reading = key.removeprefix("zh ").partition(" ")[0] not in ("purpose", "which")
        assert all(("text" in names) == reading for names in slots), key


def test_a_conversation_knows_where_it_is_from() -> None:
    made = templates.conversation(PARAMETER, random.Random(1))
    assert made.answer == made.metadata["reference"] == "The object to write."
    assert (made.task, made.documents, made.judge, made.rater) == ("parameter", ("d",), "rule", "template")
    assert made.metadata["style"] == "tidy"
    assert made.metadata["subject"] == "json.dumps"
    assert made.metadata["template"] in {f"parameter {n}" for n in range(1, 5)}
    assert "{object}" in made.prompt[0].content
    assert records.validate(records.as_json(made), Conversation, "here") == made


def test_untidy_answers_are_of_the_documents_own_sentences() -> None:
    seen: set[str] = set()
    for seed in range(200):
        made = templates.conversation(PARAMETER, random.Random(seed), untidy=1.0)
        assert made.metadata["style"] == "untidy"
        assert made.metadata["reference"] == PARAMETER.reference
        answer = made.answer or ""
        assert answer != PARAMETER.reference
        rest = answer.removeprefix(PARAMETER.reference).strip()
        if answer == PARAMETER.reference[:-1]:
            seen.add("open")
        elif answer.startswith(PARAMETER.reference):
            assert rest in ("It may be large.", "It may be large. It must not contain itself.")
            seen.add(f"longer {len(sentences(answer))}")
        else:
            assert answer.endswith(PARAMETER.reference)
            assert answer.removesuffix(PARAMETER.reference).strip() in templates.LEADS["en"]
            seen.add("lead")
    assert seen == {"open", "lead", "longer 2", "longer 3"}


def test_the_share_of_untidy_answers_is_the_recipes() -> None:
    rng = random.Random(1)
    untidy = sum(templates.conversation(PARAMETER, rng, untidy=0.3).metadata["style"] == "untidy" for _ in range(4000))
    assert untidy / 4000 == pytest.approx(0.3, abs=0.03)


def test_keys_are_never_untidy() -> None:
    key = Exercise(
        task="kind", document="d", split="train", subject="a.b", slots={"text": "a.b", "name": "a.b"},
        reference="`a.b` is a module.",
    )  # fmt: skip
    made = [templates.conversation(key, random.Random(seed), untidy=1.0) for seed in range(20)]
    assert {conversation.answer for conversation in made} == {"`a.b` is a module."}


def test_identity_speaks_both_languages() -> None:
    made = identity.conversations("Ada", "Lab", {"en", "zh"})
    assert len({conversation.prompt for conversation in made}) == len(made) >= 50
    assert all("Ada" in (conversation.answer or "") for conversation in made)
    assert {conversation.metadata["language"] for conversation in made} == {"en", "zh"}
    assert {c.metadata["language"] for c in identity.conversations("Ada", "Lab", {"zh"})} == {"zh"}
    assert identity.conversations("", "Lab", {"en"}) == []
