import random

import numpy as np
import pytest

from tutelage.corpus import duplicates


def words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"word{draw.randrange(5000)}" for _ in range(count)]


def han(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(count))


def jaccard(left: list[str], right: list[str]) -> float:
    a, b = ({tuple(text[place : place + 5]) for place in range(len(text) - 4)} for text in (left, right))
    return len(a & b) / len(a | b)


def test_exact_ignores_case_space_and_unicode_form() -> None:
    texts = ["The cat", "a dog", "the\n CAT", "ｔｈｅ cat", "the cats", "中文", "中 文"]
    assert duplicates.exact(texts) == [0, 1, 0, 0, 4, 5, 5]


def test_near_finds_a_text_with_a_few_changes_and_keeps_the_first() -> None:
    original, other = words(200, 1), words(200, 2)
    changed = [*original[:100], "changed", *original[101:]]
    assert jaccard(original, changed) > 0.9
    texts = [" ".join(text) for text in (other, original, changed)]
    assert duplicates.near(texts) == [0, 1, 1]
    assert duplicates.near([texts[2], texts[0], texts[1]]) == [0, 1, 0]
    assert duplicates.near(texts, agreement=0.999) == [0, 1, 2]


def test_near_works_in_chinese_by_characters() -> None:
    original, other = han(300, 1), han(300, 2)
    texts = [original, other, original[:150] + "改" + original[151:]]
    assert duplicates.near(texts) == [0, 1, 0]


def test_texts_that_share_half_are_not_near() -> None:
    original = words(200, 3)
    half = [*original[:130], *words(70, 4)]
    assert 0.4 < jaccard(original, half) < 0.6
    assert duplicates.near([" ".join(original), " ".join(half)]) == [0, 1]


def test_short_texts_are_like_nothing_but_their_equals() -> None:
    assert duplicates.near(["one two", "one three", "One  two", "", "--", "++", "中文", "中国"]) == [
        0, 1, 0, 3, 4, 5, 6, 7,
    ]  # fmt: skip


def test_the_order_of_words_counts() -> None:
    text = words(100, 5)
    assert duplicates.near([" ".join(text), " ".join(reversed(text))]) == [0, 1]


def test_groups_are_closed_and_do_not_depend_on_order() -> None:
    first = words(400, 6)
    chain = [first]
    for step in range(6):
        changed = list(chain[-1])
        changed[40 * step] = f"new{step}"
        chain.append(changed)
    texts = [" ".join(text) for text in chain] + [" ".join(words(400, seed)) for seed in range(10, 40)]
    groups = duplicates.near(texts)
    assert groups == [0] * 7 + list(range(7, 37))
    order = list(range(len(texts)))
    random.Random(0).shuffle(order)
    shuffled = duplicates.near([texts[place] for place in order])
    kept = {order[place] for place in range(len(order)) if shuffled[place] == place}
    assert len(kept & set(range(7))) == 1
    assert kept >= set(range(7, 37))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_signatures_agree_as_often_as_shingles_are_shared(share: float) -> None:
    """The agreement estimates the Jaccard similarity without bias: over 40 pairs of 112 hashes its error is small."""
    texts: list[str] = []
    truth: list[float] = []
    for seed in range(40):
        original = words(300, 100 + seed)
        kept = int(300 * share)
        other = [*original[:kept], *words(300 - kept, 900 + seed)]
        truth.append(jaccard(original, other))
        texts += [" ".join(original), " ".join(other)]
    signatures = duplicates._signatures(texts)
    agreement = (signatures[0::2] == signatures[1::2]).mean(axis=1)
    # Standard error: sqrt(J (1 - J) / 112 / 40) < 0.0075; four of them.
    assert abs(float(agreement.mean()) - float(np.mean(truth))) < 0.03


def test_blocks_of_any_size_give_the_same_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(words(count, count)) for count in (3, 50, 7, 500, 5, 90)]
    whole = duplicates._signatures(texts)
    monkeypatch.setattr(duplicates, "_BLOCK", 60)
    assert (duplicates._signatures(texts) == whole).all()
    alone = np.concatenate([duplicates._signatures([text]) for text in texts])
    assert (alone == whole).all()


def test_no_text_and_one_text() -> None:
    assert duplicates.near([]) == duplicates.exact([]) == []
    assert duplicates.near(["a"]) == duplicates.exact(["a"]) == [0]
