import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.web.answers import Question, Value, conflicts, kept, said
from tutelage.web.refusal import Refusal
from tutelage.web.schema import WHOLE

COMPARE = Question(key="q", kind="compare")
RANK = Question(key="q", kind="rank")
SCALE = Question(key="q", kind="scale", low=1, high=5)
EACH = Question(key="q", kind="scale", low=0, high=3, per_response=True)
GOOD = Question(key="q", kind="binary")
GOODS = Question(key="q", kind="binary", per_response=True)
TEXT = Question(key="q", kind="text")


@pytest.mark.parametrize(
    ("question", "shown", "answer", "rows"),
    [
        (COMPARE, (0, 1), 1, [(WHOLE, 1.0, None, None)]),
        (COMPARE, (1, 0), 1, [(WHOLE, 7.0, None, None)]),
        (COMPARE, (1, 0), 4, [(WHOLE, 4.0, None, None)]),
        (COMPARE, (1, 0), "both_bad", [(WHOLE, None, "both_bad", None)]),
        (COMPARE, (1, 0), {"cannot_tell": "equal_values"}, [(WHOLE, None, None, "equal_values")]),
        (RANK, (2, 0, 1), [1, 2, 2], [(2, 1.0, None, None), (0, 2.0, None, None), (1, 2.0, None, None)]),
        (RANK, (2, 0, 1), "all_bad", [(WHOLE, None, "all_bad", None)]),
        (SCALE, (0,), 5, [(WHOLE, 5.0, None, None)]),
        (EACH, (1, 0), [0, 3], [(1, 0.0, None, None), (0, 3.0, None, None)]),
        (GOOD, (0,), False, [(WHOLE, 0.0, None, None)]),
        (GOODS, (1, 0), [True, False], [(1, 1.0, None, None), (0, 0.0, None, None)]),
        (TEXT, (0,), "e\u0301 蓝", [(WHOLE, None, "é 蓝", None)]),
    ],
)
def test_by_seats_and_by_slots(question: Question, shown, answer, rows):
    values = kept([question], shown, {"q": answer})
    assert values == [Value("q", *row) for row in rows]
    assert said([question], shown, values)["q"] == ("é 蓝" if question is TEXT else answer)


@given(st.permutations(range(5)), st.lists(st.integers(1, 5), min_size=5, max_size=5))
def test_a_ranking_comes_back_as_it_was_given(shown: list[int], places: list[int]):
    dense = [sorted(set(places)).index(place) + 1 for place in places]
    values = kept([RANK], shown, {"q": dense})
    assert said([RANK], shown, values) == {"q": dense}
    by_slot = {value.slot: value.num for value in values}
    assert [by_slot[slot] for slot in shown] == dense


@pytest.mark.parametrize(
    ("question", "shown", "answer"),
    [
        *((COMPARE, (0, 1), bad) for bad in (0, 8, 1.5, True, "1", "all_bad", [1], {}, {"cannot_tell": "lazy"})),
        (COMPARE, (0, 1), {"cannot_tell": "equal_values", "and": 1}),
        *((RANK, (0, 1, 2), bad) for bad in ([], [1, 2], [1, 2, 4], [2, 3, 4], [0, 1, 2], [1, 2, "3"], 1, "both_bad")),
        *((SCALE, (0,), bad) for bad in (0, 6, 2.0, True, "3", [3], float("nan"))),
        *((EACH, (0, 1), bad) for bad in (3, [3], [3, 4], [3, None], [1, 2, 3])),
        *((GOOD, (0,), bad) for bad in (0, 1, "true", [True])),
        *((GOODS, (0, 1), bad) for bad in (True, [True], [True, 1])),
        *((TEXT, (0,), bad) for bad in ("", "  ", 1, "\x00", "\ud800", "x" * 100_001, ["a"])),
    ],
)
def test_what_is_no_answer(question: Question, shown, answer):
    with pytest.raises(Refusal, match="q") as caught:
        kept([question], shown, {"q": answer})
    assert caught.value.code == "bad_input"


def test_required_and_optional():
    note = Question(key="why", kind="text", required=False)
    assert len(kept([COMPARE, note], (0, 1), {"q": 1})) == 1
    assert len(kept([COMPARE, note], (0, 1), {"q": 1, "why": "so"})) == 2
    for bad in ({}, {"why": "so"}, {"q": None}, {"q": 1, "else": 2}):
        with pytest.raises(Refusal):
            kept([COMPARE, note], (0, 1), bad)
    with pytest.raises(Refusal, match="nothing"):
        kept([note], (0,), {})


@pytest.mark.parametrize(("safer", "better", "apart"), [(1, 7, True), (6, 2, True), (1, 3, False), (4, 7, False)])
@pytest.mark.parametrize("shown", [(0, 1), (1, 0)])
def test_where_safety_and_preference_pull_apart(shown, safer: int, better: int, apart: bool):
    questions = [Question(key="s", kind="compare", dimension="harmless"), Question(key="b", kind="compare")]
    assert conflicts(questions, kept(questions, shown, {"s": safer, "b": better})) == apart
