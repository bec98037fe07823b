import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest

from tutelage.corpus.substrings import Result, anchors, cut, meetings


def words(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(10**6)}" for _ in range(count))


def han(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(count))


def done(texts: Sequence[str], sizes: Sequence[int] = (), length: int = 100, **how: object) -> list[Result]:
    edges = [0, *itertools.accumulate(sizes), len(texts)]
    parts = [texts[a:b] for a, b in itertools.pairwise(edges)]
    met = meetings([anchors(part, length) for part in parts], [len(part) for part in parts], length=length, **how)  # type: ignore[arg-type]
    originals = {int(number): texts[number] for number in met.wanted}
    return [cut(part, first, met, originals) for first, part in zip(edges, parts, strict=False)]


def left(texts: Sequence[str], **how: object) -> list[str]:
    return [text for result in done(texts, **how) for text in result.texts.to_pylist()]  # type: ignore[arg-type]


@pytest.mark.parametrize("of", [words, han])
@pytest.mark.parametrize("size", [100, 101, 150, 400])
def test_every_stretch_of_the_length_is_found_to_its_ends(of: object, size: int) -> None:
    assert callable(of)
    space = " " if of is words else ""
    for seed in range(20):
        shared, edge = of(size, seed), random.Random(seed).randrange(60)
        one = space.join([of(edge, 1000 + seed), shared, of(70, 2000 + seed)]).strip()
        two = space.join([of(130, 3000 + seed), shared, of(60 - edge, 4000 + seed)]).strip()
        assert left([one, two]) == [one, two.replace(shared + space, "").strip() if edge < 60 else two]


def test_a_shorter_stretch_stays() -> None:
    shared = words(99, 1)
    texts = [f"{words(80, 2)} {shared} {words(80, 3)}", f"{words(80, 4)} {shared} {words(80, 5)}"]
    assert left(texts) == texts
    assert left(texts, length=60) != texts


def test_lines_go_whole_and_signs_do_not_count() -> None:
    shared = "\n".join(words(30, seed) + "." for seed in range(5))
    one = f"{words(50, 10)}\n{shared}\n{words(50, 11)}"
    two = f"{words(50, 12)}\n\n{shared.upper().replace('.', ' !')}\n\n{words(50, 13)}"
    assert left([one, two]) == [one, f"{words(50, 12)}\n\n{words(50, 13)}"]


def test_of_three_the_first_keeps_it_and_none_is_lost() -> None:
    shared = words(200, 1)
    texts = [f"{words(90, seed)} {shared} {words(90, 50 + seed)}" for seed in range(2, 5)]
    assert [shared in text for text in left(texts)] == [True, False, False]
    rank = np.array([2, 0, 1], dtype=np.uint64)
    assert [shared in text for text in left(texts, rank=rank)] == [False, True, False]
    alive = np.array([False, True, True])
    assert [shared in text for text in left(texts, alive=alive)] == [True, True, False]


def test_parts_and_slices_of_any_size_give_the_same() -> None:
    draw = random.Random(3)
    shared = [words(draw.randrange(100, 300), seed) for seed in range(5)]
    texts = [f"{words(60, 100 + n)} {shared[draw.randrange(5)]} {words(60, 200 + n)}" for n in range(20)]
    whole = left(texts)
    assert sum(len(text) for text in whole) < sum(len(text) for text in texts) * 0.8
    assert left(texts, sizes=(1, 0, 9)) == left(texts, at_once=5) == whole


def test_what_went_is_told_with_where_it_stays() -> None:
    shared = words(150, 1)
    texts = [shared, f"{words(90, 2)} {shared}"]
    _, result = done(texts, sizes=(1,))
    ((row, original, text),) = result.removed
    assert (row, original) == (0, 0)
    assert text.strip() == shared
    assert result.texts.to_pylist() == [words(90, 2) + " "]


def test_repetition_inside_one_document_stays() -> None:
    texts = [words(150, 1) + "\n" + words(150, 1), words(200, 2)]
    assert left(texts) == texts
    assert left([]) == []
    assert left(["", "x"]) == ["", "x"]
