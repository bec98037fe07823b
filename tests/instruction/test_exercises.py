import dataclasses
import inspect
import random
import re

import pytest

from tutelage.instruction import exercises
from tutelage.instruction.exercises import LONGEST_TEXT, Exercise, answer, of_python
from tutelage.records import Document
from tutelage.sentences import join

DUMPS = """
    Serialize an object to a JSON formatted string. It never writes to a file.

    The result is a single line unless an indent is given.

    Parameters
    ----------
    obj : object
        The object that becomes JSON. Any type will do.
    indent : int, optional
        How many spaces each level of the output is indented by
    cls : type
        See the module.

    Returns
    -------
    str
        The JSON text, without a line break at its end. It is ASCII.

    Raises
    ------
    TypeError
        If a key of a dictionary is not a basic type.
    ValueError
        If the object contains itself.
"""


def document(docstring: str = DUMPS, kind: str = "function", name: str = "json.dumps", signature: str = "(obj)"):
    metadata = {"kind": kind, "name": name, "module": "json", "package": "json", "signature": signature}
    text = f"{name}{signature}\n\n{inspect.cleandoc(docstring)}"
    return Document(id=name, text=text, source="json", licence="PSF-2.0", language="en", metadata=metadata)


SIBLINGS = ("loads", "load", "dump", "detect_encoding")


def made(
    doc: Document, limit: int = 9, seed: int = 1, siblings: tuple[str, ...] = SIBLINGS, ambiguous: bool = False
) -> dict[str, list[Exercise]]:
    found: dict[str, list[Exercise]] = {}
    for exercise in of_python(doc, exercises.TASKS, random.Random(seed), limit, siblings, ambiguous):
        found.setdefault(exercise.task, []).append(exercise)
    return found


def test_every_task_is_made_from_a_rich_docstring() -> None:
    assert set(made(document())) == set(exercises.TASKS)


def test_a_parameter_is_explained_by_its_first_sentence() -> None:
    found = {e.slots["parameter"]: e for e in made(document())["parameter"]}
    assert found["obj"].reference == "The object that becomes JSON."
    assert found["obj"].more == ("Any type will do.",)
    assert found["indent"].reference == "How many spaces each level of the output is indented by."
    assert "cls" not in found, "an answer that only points elsewhere is none"


@pytest.mark.parametrize("seed", range(20))
def test_texts_are_short_and_hold_the_answer(seed: int) -> None:
    for task, found in made(document(), seed=seed).items():
        for exercise in found:
            if "text" not in exercise.slots:
                continue
            assert len(exercise.slots["text"]) <= LONGEST_TEXT
            if task not in ("kind", "exception"):
                assert exercise.reference[:-1] in join(exercise.slots["text"]), task


def test_a_long_entry_keeps_its_first_lines_up_to_the_answer() -> None:
    long = "x : int\n    The first sentence is here,\n    and ends here. " + "\n    ".join(
        ["More and more words."] * 40
    )
    found = made(document("Do it.\n\nParameters\n----------\n" + long))["parameter"]
    text = found[0].slots["text"]
    assert found[0].reference == "The first sentence is here, and ends here."
    assert len(text) <= LONGEST_TEXT
    assert text.splitlines()[-1].startswith("    and ends here.")


def test_neighbours_fill_the_room_and_the_limit_holds() -> None:
    lines = "\n".join(f"p{n} : int\n    The meaning of number {n}." for n in range(40))
    found = made(document("Do it.\n\nParameters\n----------\n" + lines), limit=5)["parameter"]
    assert len(found) == 5
    for exercise in found:
        assert LONGEST_TEXT - 60 < len(exercise.slots["text"]) <= LONGEST_TEXT
    positions = [e.slots["text"].index(e.reference) / len(e.slots["text"]) for e in found]
    assert max(positions) - min(positions) > 0.2, "the answer is not always at the same place"


def test_several_exceptions_are_told_apart_by_their_case() -> None:
    found = {e.slots["case"]: e.reference for e in made(document())["exception"]}
    assert found == {
        "If a key of a dictionary is not a basic type.": "It raises `TypeError`.",
        "If the object contains itself.": "It raises `ValueError`.",
    }


def test_what_cannot_be_told_apart_is_not_asked() -> None:
    twice = "Do it.\n\nArgs:\n    a: The first meaning.\n    b: The other meaning.\n    a: The second meaning."
    assert {e.slots["parameter"] for e in made(document(twice))["parameter"]} == {"b"}
    alike = (
        "Do it.\n\nRaises:\n    KeyError: If it is gone.\n    OSError: If it is gone.\n    ValueError: If it is odd."
    )
    assert {e.reference for e in made(document(alike))["exception"]} == {"It raises `ValueError`."}


def test_an_exception_in_prose_is_found_only_if_it_is_raised_and_alone() -> None:
    assert (
        made(document("Open it.\n\nRaises OSError if it is gone."))["exception"][0].reference == "It raises `OSError`."
    )
    assert "exception" not in made(document("Open it.\n\nIt does not raise OSError if it is gone."))
    assert "exception" not in made(document("Open it.\n\nRaises OSError or ValueError if it is gone."))


def test_returns_leaves_the_type_out() -> None:
    found = made(document())["returns"][0]
    assert (found.reference, found.more) == ("The JSON text, without a line break at its end.", ("It is ASCII.",))
    google = made(document("Do it.\n\nReturns:\n    bool: True if it worked."))["returns"][0]
    assert google.reference == "True if it worked."


def test_recall_gives_the_text_away_to_nobody() -> None:
    found = made(document())
    assert found["purpose"][0].slots == {"kind": "function", "name": "json.dumps"}
    assert found["purpose"][0].reference == "Serialize an object to a JSON formatted string."
    assert found["which"][0].reference == "`dumps`."
    assert found["which"][0].slots["parent"] == "module `json`"


def test_which_is_a_choice_among_four_names_in_any_order() -> None:
    orders = [made(document(), seed=seed)["which"][0].slots["choices"] for seed in range(200)]
    chosen = [re.findall(r"`(\w+)`", order) for order in orders]
    assert all(len(set(names)) == 4 and "dumps" in names and {*names} <= {"dumps", *SIBLINGS} for names in chosen)
    assert {names.index("dumps") for names in chosen} == {0, 1, 2, 3}
    assert orders[0] == f"`{chosen[0][0]}`, `{chosen[0][1]}`, `{chosen[0][2]}` or `{chosen[0][3]}`"
    assert made(document(), siblings=("load",))["which"][0].slots["choices"] in {
        "`load` or `dumps`",
        "`dumps` or `load`",
    }


def test_which_is_asked_only_where_there_is_a_choice_with_one_answer() -> None:
    assert "which" not in made(document(), ambiguous=True)
    assert "which" not in made(document(), siblings=())


def test_kind_and_shorten_show_the_beginning() -> None:
    found = made(document(kind="method", name="json.Encoder.encode"))
    assert found["kind"][0].reference == "`json.Encoder.encode` is a method."
    assert found["which"][0].slots["parent"] == "class `json.Encoder`"
    shorten = found["shorten"][0]
    assert shorten.reference == "Serialize an object to a JSON formatted string."
    assert "shorten" not in made(document("Only one sentence."))


def test_a_later_piece_of_a_long_docstring_is_not_taken_for_its_beginning() -> None:
    whole = document()
    piece = dataclasses.replace(whole, metadata=whole.metadata | {"part": "2/3"})
    assert set(made(piece)) == {"parameter", "returns", "exception"}
    first = dataclasses.replace(whole, metadata=whole.metadata | {"part": "1/3"})
    assert set(made(first)) == set(exercises.TASKS)


def test_only_wanted_tasks_are_made() -> None:
    found = list(of_python(document(), {"kind"}, random.Random(1), 9))
    assert [e.task for e in found] == ["kind"]
    assert list(of_python(document(), set(), random.Random(1), 9)) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Short.", "x" * 201 + ".", "See the module docs.", "Deprecated since version 3.", "Is this an answer?",
        "One of the following:", "An open `tick here.", "Two sentences here. And more.", ">>> print(the value)",
        "12 34 56 78 90 12.", "Look at https://a.b for all.", "(A note in brackets.)", "And so on...",
    ],
)  # fmt: skip
def test_bad_answers_are_none(sentence: str) -> None:
    assert answer(sentence) is None


def test_a_missing_full_stop_is_added_unless_the_sentence_must_be_whole() -> None:
    assert answer("the input array") == "the input array."
    assert answer("the input array", whole=True) is None
    assert answer("返回这个文件的大小") == "返回这个文件的大小。"
