import itertools
import pickle
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from tutelage.corpus import hashing, paragraphs
from tutelage.corpus.paragraphs import Index, Stripped, passages, repeated, strip, wordings

ADVERT = (
    "Rosewood Boats of Harlow lets wooden rowing boats by the hour and by the day, with life jackets for children and "
    "dogs, from $19 an hour! Call 555-0142 before Friday and your second hour is free."
)
ADVERT_ZH = (
    "【青石书屋】专营旧书十二年，收购古籍、字画、连环画，上门看货当场付款，满200元包邮！"
    "电话400-555-0137，地址：滨江路88号二楼，欢迎光临。"
)


def story(seed: int, lines: int = 4) -> list[str]:
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(15)) + "." for _ in range(lines)]


class Passage(NamedTuple):
    row: int
    passage: int
    edited: bool
    text: str


class Result(NamedTuple):
    texts: hashing.pa.Array
    removed: list[Passage]


def told(texts: Sequence[str], first: int, result: Stripped) -> list[Passage]:
    """The passages that went; the row is of the document among those of all parts."""
    data = hashing.column(texts).data
    rows, passages, edited, starts, ends = (values.tolist() for values in result.removed)
    return [
        Passage(first + row, passage, changed, bytes(data[start:end]).decode())
        for row, passage, changed, start, end in zip(rows, passages, edited, starts, ends, strict=True)
    ]


def stripped(texts: Sequence[str], least: int = 3, sizes: Sequence[int] = (), **how: object) -> Result:
    """All four steps, in parts of the given sizes and a last one; the parts of the result put together."""
    edges = [0, *itertools.accumulate(sizes), len(texts)]
    parts = [texts[a:b] for a, b in itertools.pairwise(edges)]
    found = repeated([passages(part) for part in parts], [len(part) for part in parts], least=least, **how)  # type: ignore[arg-type]
    said: dict[int, str] = {}
    for first, part in zip(edges, parts, strict=False):
        said |= wordings(part, first, found)
    index = Index(found, said)
    results = [strip(part, first, index) for first, part in zip(edges, parts, strict=False)]
    again = [strip(part, first, index, passages(part)) for first, part in zip(edges, parts, strict=False)]
    assert [one.texts for one in again] == [one.texts for one in results]
    removed = [told(*one) for one in zip(parts, edges, results, strict=False)]
    assert [told(*one) for one in zip(parts, edges, again, strict=False)] == removed
    kept = [text for result in results for text in result.texts.to_pylist()]
    return Result(hashing.pa.array(kept, hashing.pa.large_string()), [one for part in removed for one in part])


def around(advert: str, seed: int) -> str:
    before, *behind = story(seed)
    return "\n\n".join([before, advert, *behind])


def test_a_passage_of_few_long_words_goes_too() -> None:
    heading = "Extraordinarily comprehensive documentation accompanies internationally distributed instruments."
    result = stripped([around(heading, seed) for seed in range(5)])
    assert [one.row for one in result.removed] == [1, 2, 3, 4]


@pytest.mark.parametrize("advert", [ADVERT, ADVERT_ZH])
def test_a_passage_of_many_documents_stays_in_one_and_the_rest_is_as_it_was(advert: str) -> None:
    texts = [around(advert, seed) for seed in range(5)] + ["\n\n".join(story(9))]
    result = stripped(texts)
    assert result.texts.to_pylist() == [texts[0], *("\n\n".join(story(seed)) for seed in range(1, 5)), texts[5]]
    assert [one.row for one in result.removed] == [1, 2, 3, 4]
    assert {one.text.strip() for one in result.removed} == {advert}
    assert not any(one.edited for one in result.removed)


def test_fewer_documents_and_short_lines_stay() -> None:
    texts = [around(ADVERT, seed) for seed in range(2)]
    assert stripped(texts).texts.to_pylist() == texts
    short = [around("Read more about it here.", seed) for seed in range(5)]
    assert stripped(short).texts.to_pylist() == short


def test_repetition_inside_one_document_is_not_counted_but_goes_with_the_others() -> None:
    often = "\n\n".join([ADVERT] * 5 + story(1))
    assert stripped([often, around(ADVERT, 2)]).texts[0].as_py() == often
    texts = [often, around(ADVERT, 2), around(ADVERT, 3)]
    assert stripped(texts).texts[0].as_py() == "\n\n".join([ADVERT, *story(1)])


@pytest.mark.parametrize(
    "copy",
    [
        ADVERT.upper().replace("$19", "$ 2,405").replace("555-0142", "555-9999-1"),
        ADVERT.replace(" ", "  ").replace(",", " ,"),
        ADVERT.replace("wooden", "new wooden").replace("dogs", "cats").replace("hour is", "hour will be"),
        ADVERT.replace("Harlow lets", 'Harlow <b class="x">lets</b>'),
        ADVERT + " (user860@mail.example)",
        "> " + ADVERT,
        "- **" + ADVERT + "**",
    ],
)
def test_changed_copies_go_too(copy: str) -> None:
    texts = [around(ADVERT, seed) for seed in range(3)] + [around(copy, 3)]
    result = stripped(texts)
    assert result.texts[3].as_py() == "\n\n".join(story(3))
    assert result.removed[-1].row == 3


def test_a_changed_chinese_copy_goes_too() -> None:
    copy = ADVERT_ZH.replace("旧书", "老书").replace("当场", "马上").replace("欢迎", "敬请")
    texts = [around(ADVERT_ZH, seed) for seed in range(3)] + [around(copy, 3)]
    assert stripped(texts).texts[3].as_py() == "\n\n".join(story(3))


def test_text_that_shares_words_with_a_passage_stays() -> None:
    other = "Rosewood Boats of Harlow was founded in a barn, and for years let wooden rowing boats to nobody but him."
    texts = [around(ADVERT, seed) for seed in range(3)] + [around(other, 3)]
    assert stripped(texts).texts[3].as_py() == texts[3]


def test_pictures_stay_and_so_does_other_text_of_the_line() -> None:
    beside = f"{ADVERT} 🔥🇨🇳"
    within = f"It was raining that day. {ADVERT} So they went home and read the whole afternoon by the fire."
    texts = [around(ADVERT, seed) for seed in range(3)] + [around(beside, 3), around(within, 4)]
    result = stripped(texts)
    left = [text.split("\n\n")[1] for text in result.texts.to_pylist()[3:]]
    assert left == ["🔥🇨🇳", "It was raining that day. So they went home and read the whole afternoon by the fire."]


def test_a_sentence_that_many_documents_repeat_goes_alone() -> None:
    said = "This page was written with great care by the friends of the Harlow canal and its many bridges."
    texts = [f"{story(seed)[0]} {said} {story(seed)[1]}" for seed in range(4)]
    result = stripped(texts)
    assert result.texts.to_pylist() == [texts[0], *(f"{story(seed)[0]} {story(seed)[1]}" for seed in range(1, 4))]


def test_a_paragraph_broken_into_lines_is_one() -> None:
    broken = ADVERT.replace("by the hour and ", "by the hour and\n").replace("before Friday ", "before Friday\n")
    assert broken.count("\n") == 2
    texts = [around(broken, seed) for seed in range(4)]
    assert stripped(texts).texts.to_pylist()[1:] == ["\n\n".join(story(seed)) for seed in range(1, 4)]


def test_headings_tables_lists_and_blank_lines_keep_their_places() -> None:
    heading = "## The many wooden rowing boats of Harlow and what it costs to hire them by the hour or by the day"
    row = "| boat | length in metres | number of seats | price by the hour | price by the day | remarks on it |"
    texts = [f"# {seed}\n\n{heading}\n\n{row}\n|---|\n\n- {story(seed)[0]}\n- {ADVERT}\n- end\n" for seed in range(4)]
    expected = [text.replace(f"- {ADVERT}\n", "").strip("\n") if place else text for place, text in enumerate(texts)]
    assert stripped(texts).texts.to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("{a}", ""),
        ("{a}\n", ""),
        ("{a}\n\nx", "x"),
        ("\n\n{a}\n\n\nx\n\n\n\n", "x"),
        ("\n \n{a}\n\nx\n\n \n", " \nx\n\n "),
        ("x\n\n{a}", "x"),
        ("x\n\n{a}\n\ny", "x\n\ny"),
        ("x\n{a}\ny", "x\ny"),
        ("x\n\n\n{a}\n\n\ny", "x\n\n\n\ny"),
        ("x\r\n\r\n{a}\r\n\r\ny", "x\r\n\r\ny"),
    ],
)
def test_what_is_left_has_the_blank_lines_it_had(text: str, left: str) -> None:
    texts = [around(ADVERT, seed) for seed in range(3)] + [text.format(a=ADVERT)]
    assert stripped(texts).texts[3].as_py() == left


def test_parts_slices_and_a_pickled_index_give_the_same() -> None:
    texts = [around([ADVERT, ADVERT_ZH][seed % 2], seed) for seed in range(20)]
    texts[7] = around(ADVERT.replace("wooden", "new wooden"), 7)
    whole = stripped(texts)
    for sizes in ((1,), (0, 7, 7), (5, 5, 5)):
        again = stripped(texts, sizes=sizes, at_once=3)
        assert again.texts.equals(whole.texts)
        assert again.removed == whole.removed
    found = repeated([passages(texts)], [len(texts)], least=3)
    index = Index(found, wordings(texts, 0, found))
    assert strip(texts, 0, pickle.loads(pickle.dumps(index))).texts.equals(strip(texts, 0, index).texts)


def test_what_is_looked_at_briefly_comes_out_as_what_is_looked_at_closely() -> None:
    draw = random.Random(6)
    copies = [ADVERT, ADVERT.replace("wooden", "new wooden"), ADVERT_ZH, ADVERT_ZH.replace("旧书", "老书")]
    pieces = [*copies, f"# {ADVERT}", ADVERT[:90], "", "\0", "🔥", "e\u0301", "12 34", "x" * 5000]
    pieces += [line for seed in range(6) for line in story(seed, 2)]
    texts = [
        "".join(draw.choice(pieces) + draw.choice(["\n", "\n\n", " ", " 🔥 "]) for _ in range(draw.randrange(9)))
        for _ in range(150)
    ]
    result = stripped(texts)  # compares both
    assert {one.edited for one in result.removed} == {False, True}
    assert stripped(texts, sizes=(1, 90)).texts.equals(result.texts)


def test_ranks_choose_who_keeps_and_the_refused_do_not_count() -> None:
    texts = [around(ADVERT, seed) for seed in range(4)]
    result = stripped(texts, rank=np.array([3, 2, 0, 1], dtype=np.uint64))
    assert [ADVERT in text for text in result.texts.to_pylist()] == [False, False, True, False]
    alive = np.array([False, True, True, True])
    assert ADVERT in stripped(texts, alive=alive).texts[1].as_py()
    alive[1] = False
    assert stripped(texts, alive=alive).texts.to_pylist() == texts


def test_a_text_that_goes_for_another_reason_is_left_alone() -> None:
    texts = [around(ADVERT, seed) for seed in range(4)]
    found = repeated([passages(texts)], [4], least=3)
    index = Index(found, wordings(texts, 0, found))
    for known in (None, passages(texts)):
        result = strip(texts, 0, index, known, np.array([True, True, False, True]))
        assert [ADVERT in text for text in result.texts.to_pylist()] == [True, False, True, False]
        assert result.removed.rows.tolist() == [1, 3]
        result = strip(texts, 0, index, known, np.array([False, True, True, True]))
        assert [ADVERT in text for text in result.texts.to_pylist()] == [True, False, False, False]


def test_wordings_and_counts_are_told() -> None:
    texts = [around(ADVERT, seed) for seed in range(5)]
    found = repeated([passages(texts)], [5])
    assert not len(found.keys)
    found = repeated([passages(texts)], [5], least=5)
    assert found.counts.tolist() == [5] * len(found.keys)
    assert set(found.keepers.tolist()) == {0}
    said = wordings(texts, 0, found)
    assert ADVERT.rstrip(".") in said.values()
    assert wordings(texts[1:], 1, found) == {}


def test_no_documents_and_empty_documents() -> None:
    assert stripped([]).texts.to_pylist() == []
    assert stripped(["", "\n\n", "🔥"]).texts.to_pylist() == ["", "\n\n", "🔥"]
    assert paragraphs.Index(repeated([], []), {}).found.keys.tolist() == []
