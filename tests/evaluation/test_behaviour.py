import pytest

from tutelage.errors import RecordError
from tutelage.evaluation.behaviour import behaviour, repeated


def test_a_counted_answer():
    found = behaviour(["# Title\n- one thing\n2. another thing\nI'm sorry, it might be late. Overall, fine."])
    assert found["list_items"] == 2
    assert found["headings"] == 1
    assert (found["apology"], found["hedge"], found["closing_summary"]) == (1, 1, 1)
    assert (found["refusal"], found["self_reference"], found["please"], found["empty"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "with_it", "without"),
    [
        ("closing_summary", ["总之，很好。", "In conclusion, yes."], ["很好。", "The overalls are blue."]),
        ("apology", ["对不起。", "I apologise.", "SORRY"], ["没有。", "sorrow"]),
        ("hedge", ["这可能是。", "It depends.", "I’m not sure"], ["这是。", "mighty"]),
        ("refusal", ["我不能说。", "无法提供。", "I can't.", "I cannot.", "I won’t"], ["我能。", "I can do it"]),
        ("self_reference", ["作为一个人工智能，", "As an AI model"], ["作为老师", "has an aim"]),
        ("please", ["请看。", "Please do"], ["看。", "pleased"]),
        ("question_marks", ["what???", "什么？？？"], ["what??"]),
    ],
)
def test_patterns_in_both_languages(name: str, with_it: list[str], without: list[str]):
    assert [behaviour([text])[name] for text in with_it] == [1] * len(with_it)
    assert [behaviour([text])[name] for text in without] == [0] * len(without)


def test_lengths_are_means_in_words_and_characters():
    found = behaviour(["one two.", "一二三。四五。", ""])
    assert found["words"] == pytest.approx((2 + 5 + 0) / 3)
    assert found["characters"] == pytest.approx((8 + 7 + 0) / 3)
    assert found["sentences"] == pytest.approx((1 + 2 + 0) / 3)
    assert found["empty"] == pytest.approx(1 / 3)


def test_repetition_by_hand():
    # a b c d a b c d: five 4-grams, abcd bcda cdab dabc abcd, one of them again
    assert repeated(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert repeated(["a", "b", "c"]) == 0
    assert behaviour(["the cat the cat the cat the cat", "other"])["repeated_ngrams"] == pytest.approx((3 / 5) / 2)
    # pairs: (好 的) (的 好) (好 的): two differ
    assert behaviour(["好的好的"])["distinct_2"] == pytest.approx(2 / 3)
    assert behaviour(["好的好的", "one two", "one two"])["distinct_2"] == pytest.approx(3 / 5)


def test_the_commonest_opening():
    texts = ["It is a module for JSON.", "It is a module for XML.", "Reads a file."]
    assert behaviour(texts)["commonest_opening"] == pytest.approx(2 / 3)


def test_no_answers():
    with pytest.raises(RecordError, match="behaviour: no answers"):
        behaviour([])
