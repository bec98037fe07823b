import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tutelage.corpus import duplicates, hashing


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


def test_exact_ignores_punctuation_but_where_it_is_half_of_what_is_said() -> None:
    long = words(40, 9)
    assert duplicates.exact([" ".join(long), ", ".join(long) + "!"]) == [0, 0]
    assert duplicates.exact(["3 + 4", "3 - 4", "3  +  4"]) == [0, 1, 0]
    assert duplicates.exact(["-- --", "++", "-- --", ""]) == [0, 1, 0, 3]


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


@pytest.mark.parametrize("length", [60, 300, 4000])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_sketches_agree_as_often_as_runs_are_shared(share: float, length: int) -> None:
    """The agreement estimates the Jaccard similarity without bias, whatever the length: 40 pairs of 256 hashes."""
    texts: list[str] = []
    truth: list[float] = []
    for seed in range(40):
        original = words(length, 100 + seed)
        kept = int(length * share)
        other = [*original[:kept], *words(length - kept, 900 + seed)]
        truth.append(jaccard(original, other))
        texts += [" ".join(original), " ".join(other)]
    sketches = duplicates.sign(texts).sketch
    equal = float((sketches[0::2] == sketches[1::2]).mean())
    # Standard error: sqrt(J (1 - J) / 256 / 40) < 0.005; four of them.
    assert abs((equal - 1 / 256) / (1 - 1 / 256) - float(np.mean(truth))) < 0.02


_ALL = (1 << 64) - 1


def mixed(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _ALL
    return value ^ (value >> 31)


def digest(data: bytes) -> list[int]:
    one, other = len(data), 0x9E3779B97F4A7C15
    for place in range(0, len(data), 8):
        word = int.from_bytes(data[place : place + 8], "little")
        one = (one ^ word) * 0xBF58476D1CE4E5B9 & _ALL
        one ^= one >> 29
        other = (other + word) * 0x94D049BB133111EB & _ALL
        other ^= other >> 32
    return [mixed(one), mixed(other)]


def sketch(shingles: list[int]) -> list[int]:
    """The lowest byte of each of 256 hashes; rounds go on until each has a value, at most 32 and then one for each."""
    least: dict[int, int] = {}
    for turn in range(32 + 256):
        found: dict[int, list[int]] = {}
        for shingle in shingles:
            value = mixed(shingle ^ (turn * 0x9E3779B97F4A7C15 & _ALL)) if turn else shingle
            found.setdefault(value & 255 if turn < 32 else turn - 32, []).append((turn << 48) | (value >> 16))
        for slot, values in found.items():
            least.setdefault(slot, min(values))
    return [mixed(least[slot]) & 255 for slot in range(256)]


def test_signatures_are_those_that_the_slow_way_gives() -> None:
    draw = random.Random(9)
    texts = ["", "a", "字", "😀", "\0", "e\u0301", "1234567", "12345678", "123456789", "--", "a b c d e", "x " * 30]
    texts += ["".join(draw.choices("ab c字é😀\0\u0301.", k=draw.randrange(60))) for _ in range(30)]
    texts += [" ".join(words(count, count)) for count in (4, 5, 6, 40, 700)]
    signs = duplicates.sign(texts)
    for row, text in enumerate(texts):
        assert signs.exact[row].tolist() == digest(text.encode())
        units = hashing.units_of(hashing.column([text]))
        known = units.hashes[: units.last[0]]
        shingles = np.empty(len(known) + 1, np.uint64)
        count = hashing.runs(known, len(known), duplicates.WORDS, shingles)
        if count:
            assert signs.sketch[row].tolist() == sketch(shingles[:count].tolist())
        else:
            assert not signs.sketch[row].any()
            assert not signs.bands[:, row].any()


def corpus(count: int = 120) -> list[str]:
    """Originals, copies with some words changed, the same in capitals, and exact copies."""
    draw = random.Random(7)
    texts: list[str] = []
    for number in range(count):
        original = words(150, 5000 + number)
        texts.append(" ".join(original))
        for _ in range(draw.randrange(3)):
            changed = list(original)
            changed[draw.randrange(150)] = "changed"
            texts.append(" ".join(changed))
        if number % 5 == 0:
            texts += [" ".join(original).upper(), " ".join(original)]
    return texts


def cut_up(texts: list[str], sizes: Sequence[int]) -> list[duplicates.Signs]:
    edges = [0, *itertools.accumulate(sizes), len(texts)]
    return [duplicates.sign(texts[a:b]) for a, b in itertools.pairwise(edges)]


def test_parts_threads_and_slices_of_any_size_give_the_same_groups(tmp_path: Path) -> None:
    texts = corpus()
    whole = duplicates.group([duplicates.sign(texts)])
    assert set(whole.how.tolist()) == {0, 1, 2, 3}
    for sizes, at_once in (((1, 50, 0, 3), 10**6), ((100,), 17)):
        again = duplicates.group(cut_up(texts, sizes), at_once=at_once)
        for one, other in zip(whole, again, strict=True):
            assert (one == other).all()
    for name, values in duplicates.sign(texts, threads=3)._asdict().items():
        assert (values == getattr(duplicates.sign(texts), name)).all()
    for number, part in enumerate(cut_up(texts, (60, 60))):
        part.write(tmp_path / str(number))
    read = duplicates.group([duplicates.Signs.read(tmp_path / str(number)) for number in range(3)])
    for one, other in zip(whole, read, strict=True):
        assert (one == other).all()


def test_the_same_copy_stays_however_the_documents_are_shuffled() -> None:
    texts = corpus()
    ids = [f"document {number}" for number in range(len(texts))]
    kept: list[set[str]] = []
    pairs: list[set[tuple[str, str, int, float]]] = []
    for seed in range(3):
        order = list(range(len(texts)))
        random.Random(seed).shuffle(order)
        names = [ids[place] for place in order]
        groups = duplicates.group(cut_up([texts[place] for place in order], (40, 90)), rank=hashing.rank(names))
        kept.append({name for name, how in zip(names, groups.how, strict=True) if not how})
        found = zip(names, groups.stands_for, groups.how, groups.similarity, strict=True)
        pairs.append({(name, names[to], int(how), float(share)) for name, to, how, share in found})
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 120
    assert pairs[0] == pairs[1] == pairs[2]


def test_preferred_documents_stay() -> None:
    texts = [" ".join(words(100, seed)) for seed in (1, 1, 2, 2)]
    rank = hashing.rank(list("abcd"), [1, 0, 0, 1])
    assert duplicates.group([duplicates.sign(texts)], rank=rank).stands_for.tolist() == [1, 1, 2, 2]


def test_clusters_say_who_stays_who_goes_and_why() -> None:
    original = words(300, 1)
    changed = [*original[:100], "changed", *original[101:]]
    texts = [" ".join(text) for text in (words(300, 2), original, changed, original)] + [" ".join(original).upper()]
    groups = duplicates.group([duplicates.sign(texts)])
    (found,) = duplicates.clusters(groups)
    assert (found.kept, found.members) == (1, (2, 3, 4))
    assert found.how == ("near_duplicate", "exact_duplicate", "normalised_duplicate")
    assert found.similarity[1:] == (1, 1)
    assert abs(found.similarity[0] - jaccard(original, changed)) < 0.05
    assert duplicates.clusters(groups, most=0) == []


def test_a_crowded_bucket_stays_linear_and_whole() -> None:
    """Two thousand copies of one text with one word changed each."""
    original = words(80, 1)
    texts = [" ".join([*original[: place % 80], f"new{place}", *original[place % 80 + 1 :]]) for place in range(2000)]
    groups = duplicates.group([duplicates.sign(texts)])
    assert (groups.stands_for == 0).mean() > 0.99


def test_no_text_and_one_text() -> None:
    assert duplicates.near([]) == duplicates.exact([]) == []
    assert duplicates.near(["a"]) == duplicates.exact(["a"]) == [0]
