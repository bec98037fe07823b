import pickle
import random

import numpy as np
import pyarrow as pa
import pytest

from tutelage.corpus import leakage
from tutelage.corpus.leakage import Index, Leak, find
from tutelage.corpus.lookup import filter_of, may_hold
from tutelage.corpus.testsets import Item

QUESTION = (
    "A baker in Harlow sells twelve loaves every morning and five more every afternoon, except on Sundays when the "
    "shop is shut; how many loaves does she sell in the whole month of June?"
)
QUESTION_ZH = (
    "哈洛的一位面包师每天上午卖出十二个面包，下午再卖出五个，只有星期天店铺关门不卖，"
    "请问她在整个六月里一共能卖出多少个面包？"
)


def words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefgh", k=6)) for _ in range(count)]


def prose(seed: int) -> str:
    return " ".join(words(200, seed))


def item(text: str, identity: str = "1") -> Item:
    return Item("test.jsonl", identity, "question", text)


def leaks(said: str, *items: Item) -> list[Leak]:
    return find(
        [prose(1), f"{prose(2)}\n\n{said}\n\n{prose(3)}"], 10, Index(items or [item(QUESTION), item(QUESTION_ZH, "2")])
    )


@pytest.mark.parametrize(("question", "identity"), [(QUESTION, "1"), (QUESTION_ZH, "2")])
def test_a_copy_is_found_with_where_and_how_much(question: str, identity: str) -> None:
    (leak,) = leaks(question)
    assert (leak.document, leak.item.id, leak.coverage, leak.alteration) == (11, identity, 1, "none")
    assert question.startswith(leak.text)
    assert len(leak.text) >= len(question) - 1
    text = f"{prose(2)}\n\n{question}\n\n{prose(3)}"
    assert text.encode()[leak.start : leak.end].decode() == leak.text


@pytest.mark.parametrize(
    ("copy", "alteration"),
    [
        (QUESTION.upper().replace(",", " ,").replace(" ", "  "), "none"),
        (QUESTION_ZH.replace("，", ", ").replace("？", "?"), "none"),
        (QUESTION.replace("baker", "butcher").replace("Sundays", "Mondays").replace("whole", "entire"), "changed"),
        (QUESTION_ZH.replace("面包师", "老师傅").replace("星期天", "礼拜天"), "changed"),
        (QUESTION[: int(len(QUESTION) * 0.62)], "part"),
        (QUESTION_ZH[: int(len(QUESTION_ZH) * 0.6)], "part"),
    ],
)
def test_altered_copies_are_found(copy: str, alteration: str) -> None:
    (leak,) = leaks(copy)
    assert leak.document == 11
    assert leak.alteration == alteration
    assert 0.5 <= leak.coverage <= 1


def test_shuffled_options_are_found() -> None:
    options = [" ".join(words(7, seed)) for seed in range(4)]
    asked = item("Which of these is right?\n" + "\n".join(options))
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        copy = "Which of these is right?\n" + "\n".join(options[place] for place in order)
        (leak,) = leaks(copy, asked)
        assert leak.coverage >= 0.9


def test_a_share_is_not_enough_and_neither_is_the_same_scattered() -> None:
    assert leaks(QUESTION[: int(len(QUESTION) * 0.4)]) == []
    assert leaks(QUESTION_ZH[: int(len(QUESTION_ZH) * 0.4)]) == []
    some = QUESTION.split()
    scattered = "\n".join(" ".join(some[place : place + 6]) + " " + prose(place) for place in range(0, len(some), 6))
    assert leaks(scattered) == []
    shuffled = list(some)
    random.Random(1).shuffle(shuffled)
    assert leaks(" ".join(shuffled)) == []


def test_short_items_must_be_there_whole_and_very_short_ones_are_told() -> None:
    short = item("How many apples has he left now, please?")
    assert len(leaks("How many apples has he left now, please?", short)) == 1
    assert leaks("How many apples has he left now, in the end?", short) == []
    index = Index([item("What is 2 + 2?"), short])
    assert [one.text for one in index.unjudged] == ["What is 2 + 2?"]
    assert [one.text for one in index.items] == [short.text]


def test_what_all_questions_of_a_pattern_share_does_not_count() -> None:
    pattern = "Is the following statement something that you would say yourself in earnest, yes or no? "
    asked = [item(pattern + " ".join(words(12, seed)), str(seed)) for seed in range(20)]
    assert leaks(pattern + " ".join(words(12, 99)), *asked) == []
    assert [leak.item.id for leak in leaks(asked[4].text, *asked)] == ["4"]


def test_one_item_twenty_times_is_still_found() -> None:
    assert len(leaks(QUESTION, *[item(QUESTION, str(number)) for number in range(20)])) == 20


def test_many_leaks_in_many_texts() -> None:
    asked = [item(" ".join(words(30, seed)), str(seed)) for seed in range(300)]
    index = pickle.loads(pickle.dumps(Index(asked)))
    texts = ["\n".join(one.text for one in asked[place::3]) for place in range(3)]
    found = find(pa.array(texts, pa.large_string()), 0, index)
    assert sorted((leak.document, int(leak.item.id)) for leak in found) == sorted((n % 3, n) for n in range(300))
    assert [leak for n in range(3) for leak in find([texts[n]], n, index)] == found
    assert find([], 0, index) == find(["", "x"], 0, index) == find(texts, 0, Index([])) == []


@pytest.mark.parametrize("length", [1, 5, 8])
def test_every_run_is_told_by_its_own_units(length: int) -> None:
    draw = np.random.default_rng(length)
    hashes = draw.integers(0, 1 << 63, 40, np.uint64)
    hashes[20:32] = hashes[:12]
    sums, where = np.zeros(40, np.uint64), np.zeros(40, np.int64)
    everything = np.full(16, ~np.uint64(0))
    shown = leakage._near(hashes, length, everything, sums, where)  # pyright: ignore[reportPrivateUsage]
    assert where[:shown].tolist() == list(range(41 - length))
    runs = [tuple(hashes[place : place + length].tolist()) for place in range(shown)]
    assert len(set(sums[:shown].tolist())) == len(set(runs))
    assert sums[: 13 - length].tolist() == sums[20 : 33 - length].tolist()
    filled = filter_of(sums[30:shown])
    assert leakage._near(hashes, length, filled, sums, where) <= 2 * (shown - 30)  # pyright: ignore[reportPrivateUsage]
    assert set(range(30, shown)) <= set(where.tolist())


def test_a_filter_holds_what_it_was_made_of_and_little_else() -> None:
    keys = np.random.default_rng(1).integers(0, 1 << 63, 20_000, np.uint64)
    seen = filter_of(keys[:10_000])
    assert all(may_hold(key, seen) for key in keys[:10_000])
    assert sum(may_hold(key, seen) for key in keys[10_000:]) < 100
