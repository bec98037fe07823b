import random
from collections import Counter
from fractions import Fraction

import pytest

from tutelage.errors import RecordError
from tutelage.evaluation import judge
from tutelage.evaluation.judge import RuleScore, accuracy, f1, invented_names, noisy_ranks, prefer, score
from tutelage.records import Comparison, Conversation, Message

TEXT = "json.dumps(obj, indent=None)\n\nArgs:\n    indent: How many spaces a level takes. See JSONEncoder.indent."
REFERENCE = "How many spaces a level takes."


def question(task: str = "parameter", reference: str = REFERENCE, prompt: str = TEXT) -> Conversation:
    turns = (Message(role="user", content=prompt),)
    return Conversation(id="q", messages=turns, task=task, metadata={"reference": reference})


def points(response: str, stopped: bool = True, **about: str) -> tuple[int, int, int, int]:
    found = score(question(**about), response, stopped)
    return found.right_object, found.one_sentence, found.no_invented_name, found.ends_properly


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (REFERENCE, (1, 1, 1, 1)),
        ("The spaces that a level takes.", (1, 1, 1, 1)),
        (REFERENCE + " It is a number.", (1, 0, 1, 1)),
        (REFERENCE[:-1], (1, 1, 1, 0)),
        ("How many spaces a level (takes.", (1, 1, 1, 0)),
        ("How many `spaces a level takes.", (1, 1, 1, 0)),
        ("How many spaces a level takes?", (1, 1, 1, 0)),
        ("How many spaces a level of `json.load` takes.", (1, 1, 0, 1)),
        ("How many spaces a level of JSONEncoder.indent takes.", (1, 1, 1, 1)),
        ("The name of the file.", (0, 1, 1, 1)),
        ("", (0, 0, 0, 0)),
        ("  \n", (0, 0, 0, 0)),
    ],
)
def test_each_check_looks_at_one_thing(response: str, expected: tuple[int, int, int, int]) -> None:
    assert points(response) == expected
    assert score(question(), response).total == sum(expected)


def test_an_answer_that_was_cut_does_not_end_properly() -> None:
    assert points(REFERENCE, stopped=False) == (1, 1, 1, 0)


def test_half_of_the_words_are_enough_and_less_are_not() -> None:
    # Content words of the reference: many, spaces, level, takes. F1 = 2 same / (ours + 4).
    assert f1("many spaces", REFERENCE) == Fraction(2 * 2, 2 + 4)
    assert points("Many spaces of other great things.")[0] == 0
    assert f1("Many spaces of other great things.", REFERENCE) == Fraction(4, 9)
    assert f1("Many spaces of great things.", REFERENCE) == Fraction(1, 2)
    assert points("Many spaces of great things.")[0] == 1
    assert f1("level level", "level") == Fraction(2, 3), "a word said twice counts once"


@pytest.mark.parametrize(
    ("task", "reference", "right", "wrong"),
    [
        ("kind", "`a.b` is a class.", "It is a class.", "It is a function."),
        ("exception", "It raises `ValueError`.", "A ValueError.", "It raises `UnicodeValueErrors`."),
        ("which", "`json.dumps`.", "It is `json.dumps`.", "It is `json.dump`."),
        ("title", 'The title is "The well".', "The well.", "The bucket."),
        ("title", "标题是《水井》。", "这是《水井》。", "这是《桶》。"),
    ],
)
def test_key_tasks_ask_for_the_key(task: str, reference: str, right: str, wrong: str) -> None:
    prompt = "ValueError, UnicodeValueErrors, json.dump, json.dumps"
    assert points(right, task=task, reference=reference, prompt=prompt)[0] == 1
    assert points(wrong, task=task, reference=reference, prompt=prompt)[0] == 0


def test_the_name_of_the_object_is_no_kind() -> None:
    about = {"task": "kind", "reference": "`types.function.x` is a class.", "prompt": "types.function.x"}
    assert points("`types.function.x` is a class.", **about) == (1, 1, 1, 1)
    assert points("`types.class.x` is a method.", **about)[0] == 0


def test_chinese_is_marked_by_characters() -> None:
    about = {"task": "shorten", "reference": "村子里有一口水井。", "prompt": "村子里有一口水井。孩子们打水。"}
    assert points("村子里有一口水井。", **about) == (1, 1, 1, 1)
    assert points("村子里有一口水井。孩子们打水。", **about) == (1, 0, 1, 1)
    assert points("孩子们打水", **about) == (0, 1, 1, 0)
    # Without the empty words 有 and 一 the reference has 6 characters, the answer 4, all of them in it: 2 * 4 / 10.
    assert accuracy("shorten", "村里水井", "村子里有一口水井。") == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("response", "names"),
    [
        ("Uses `foo` and json.loads, my_name and CamelCase.", ["CamelCase", "foo", "json.loads", "my_name"]),
        ("Plain English, e.g. this, i.e. that, with 3.5 items and CPUs.", []),
        ("A `json.dumps` of `indent`.", []),
        ("An `ind` of it.", ["ind"]),
    ],
)
def test_invented_names_are_names_of_code_that_stand_nowhere(response: str, names: list[str]) -> None:
    assert invented_names(response, TEXT) == names


def test_a_comparison_is_a_question_too() -> None:
    pair = Comparison(
        id="c", prompt=(Message(role="user", content=TEXT),), responses=("a", "b"), ranks=(1, 2), judge="rule",
        task="parameter", metadata={"reference": REFERENCE},
    )  # fmt: skip
    assert score(pair, REFERENCE).total == 4


def test_an_own_answer_is_the_reference_where_no_other_is() -> None:
    turns = (Message(role="user", content=TEXT), Message(role="assistant", content=REFERENCE))
    assert score(Conversation(id="q", messages=turns), REFERENCE).total == 4
    with pytest.raises(RecordError, match="question q: no reference"):
        score(Conversation(id="q", messages=turns[:1]), REFERENCE)


def test_a_reference_without_its_key_is_refused() -> None:
    with pytest.raises(RecordError, match=r"task which: reference 'json\.dumps': it should hold the answer once"):
        score(question(task="which", reference="json.dumps"), "x")


def test_preference_is_by_points() -> None:
    good, bad = RuleScore(1, 1, 1, 0), RuleScore(0, 1, 1, 0)
    assert (prefer(good, bad), prefer(bad, good), prefer(good, RuleScore(0, 1, 1, 1))) == (1, -1, 0)


def test_ranks_without_noise_are_the_rule() -> None:
    assert noisy_ranks([4, 2, 4, 0], 0.0, random.Random(1)) == (1, 2, 1, 3)
    assert noisy_ranks([3, 3], 0.0, random.Random(1)) == (1, 1)


def test_noise_is_as_stated() -> None:
    # Each of two is replaced, with 0.4, by one of 0..4 drawn evenly. Of (4, 3): both seen .36, first blind .24,
    # second blind .24, both blind .16. Better first: .36 + .24 * 1/5 + .24 * 4/5 + .16 * 10/25 = .664;
    # worse first: .24 * 3/5 + .16 * 10/25 = .208; a tie: .24 * 1/5 + .24 * 1/5 + .16 * 5/25 = .128.
    rng = random.Random(7)
    seen = Counter(noisy_ranks([4, 3], 0.4, rng) for _ in range(40_000))
    assert seen[(1, 2)] / 40_000 == pytest.approx(0.664, abs=0.01)
    assert seen[(2, 1)] / 40_000 == pytest.approx(0.208, abs=0.01)
    assert seen[(1, 1)] / 40_000 == pytest.approx(0.128, abs=0.01)


def test_noise_takes_the_same_draws_whatever_it_gives() -> None:
    a, b = random.Random(3), random.Random(3)
    noisy_ranks([4, 0, 2], 0.0, a)
    noisy_ranks([1, 1, 1], 1.0, b)
    assert a.random() == b.random()


@pytest.mark.parametrize(
    ("task", "response", "reference", "expected"),
    [
        ("kind", "`a.function` is a class.", "`a.function` is a class.", 1.0),
        ("kind", "A class or a function.", "`a.b` is a class.", 0.0),
        ("kind", "", "`a.b` is a class.", 0.0),
        ("exception", "It raises `KeyError`.", "It raises `KeyError`.", 1.0),
        ("exception", "KeyError.", "It raises `KeyError`.", 1.0),
        ("exception", "It raises `KeyError` or `ValueError`.", "It raises `KeyError`.", 0.0),
        ("which", "`json.dump`.", "`json.dumps`.", 0.0),
        ("which", "`torch.load_dict`.", "`torch.load_state_dict`.", 0.8),
        ("which", "`a.HTTPServer`.", "`b.HTTPError`.", 0.5),
        ("which", "`a.load` or `a.dump`.", "`a.load_all`.", 0.0),
        ("title", "标题是《水井》。", "标题是《水井》。", 1.0),
        ("title", "The well", 'The title is "The well".', 1.0),
        ("parameter", REFERENCE, REFERENCE, 1.0),
        ("parameter", "many spaces", REFERENCE, 2 / 3),
        ("purpose", "", REFERENCE, 0.0),
    ],
)
def test_accuracy_is_the_key_or_the_words(task: str, response: str, reference: str, expected: float) -> None:
    assert accuracy(task, response, reference) == pytest.approx(expected)


def test_the_rule_is_stated_with_its_four_checks() -> None:
    for name in RuleScore.__dataclass_fields__:
        assert name.replace("_", " ").capitalize() in judge.RULE
