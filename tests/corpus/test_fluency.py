import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tutelage.corpus import fluency
from tutelage.corpus.characters import CJK, classes
from tutelage.corpus.fluency import Counts, Model, count
from tutelage.errors import RecordError

SYLLABLES = "ba do ken lim ra so ti vu mer ol an de".split()
HAN = "人们读书写字看山水花鸟日月风云"


def column(*texts: str) -> pa.Array:
    return pa.array(list(texts), pa.large_string())


def word(draw: random.Random) -> str:
    return "".join(draw.choices(SYLLABLES, k=draw.randint(1, 3)))


def prose(seed: int, words: int = 400) -> str:
    draw = random.Random(seed)
    return " ".join(word(draw) for _ in range(words)) + "."


def chinese(seed: int, characters: int = 600) -> str:
    draw = random.Random(seed)
    found = [0]
    for _ in range(characters):
        found.append((found[-1] + draw.choice((1, 2, 3))) % len(HAN))
    return "".join(HAN[place] for place in found)


def junk(seed: int, letters: int = 600) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice("bcdfghjklmnpqrstvwxz ") for _ in range(letters))


@pytest.fixture(scope="module")
def model() -> Model:
    good = [prose(seed) for seed in range(250)] + [chinese(seed) for seed in range(400)]
    # A corpus that is to be cleaned holds some of what is to be found.
    return Model(count(column(*good, *(junk(seed) for seed in range(2)))))


def test_letters_at_random_are_told_from_words(model: Model) -> None:
    bits = model.bits(column(prose(1001), junk(1001), prose(1001).upper()))
    assert bits[0, 0] < 3.5
    assert bits[1, 0] > 5.8
    assert bits[2, 0] == bits[0, 0]
    assert np.isnan(bits[:, 1]).all()


def test_characters_at_random_are_told_from_chinese(model: Model) -> None:
    draw = random.Random(5)
    rare = "".join(chr(draw.randrange(0x5000, 0x9000)) for _ in range(200))
    bits = model.bits(column(chinese(1001), rare, "字"))
    assert bits[0, 1] < 4
    assert bits[1, 1] > 10.8
    assert np.isnan(bits[2]).all()


def test_digits_and_signs_say_nothing(model: Model) -> None:
    text = prose(7)
    mixed = text.replace(" ", " 12_34 + ")
    assert model.bits(column(text))[0, 0] == pytest.approx(model.bits(column(mixed))[0, 0])


def test_counts_of_parts_are_added() -> None:
    texts = [prose(1), chinese(2), "", "été Ärger", "日"]
    together = count(column(*texts))
    assert (together == sum(count(column(text)) for text in texts)).all()
    assert together.shape == count(column()).shape


def parted(text: str) -> list[tuple[str, int]]:
    """Each character that is read, in lower case, with its kind; None begins a window."""
    data = text.encode()
    number, apart = 1, len(data)
    if len(data) > fluency.WINDOW * fluency.WINDOWS:
        number, apart = fluency.WINDOWS, (len(data) - fluency.WINDOW) // (fluency.WINDOWS - 1)
    found: list[tuple[str, int]] = []
    for window in range(number):
        first = window * apart
        while first < len(data) and data[first] & 0xC0 == 0x80:
            first += 1
        last = min(len(data), first + fluency.WINDOW) if number > 1 else len(data)
        while last < len(data) and data[last] & 0xC0 == 0x80:
            last += 1
        found.append(("", -1))
        for one in data[first:last].decode():
            code = ord(one)
            kind = int(classes()[code]) if code < 65536 else CJK if 0x20000 <= code <= 0x3FFFF else 0
            known = 2 if kind == CJK else 1 if kind in (1, 2) and one != "_" else 0
            large = "A" <= one <= "Z" or "\u00c0" <= one <= "\u00de" or "\u0410" <= one <= "\u042f"
            found.append((chr(code + 32) if large and known else one, known))
    return found


def slowly(texts: list[str], counts: Counts) -> tuple[Counts, list[tuple[float, float]]]:
    """What is counted, and the bits under ``counts``, a character at a time."""
    twos, threes = fluency.ONES, fluency.ONES + fluency.TWOS
    seen = np.zeros(fluency.SLOTS, np.int64)
    found: list[tuple[float, float]] = []
    for text in texts:
        bits, shown = [0.0, 0.0, 0.0], [0, 0, 0]
        a = b = 0
        for one, kind in parted(text):
            code = ord(one) if kind > 0 else 0
            pair, triple = twos + fluency.pair(b, code), threes + fluency.triple(a, b, code)
            if kind > 0 or (kind == 0 and b):
                seen[code & 65535] += 1
                seen[pair] += 1
                seen[triple] += kind < 2
            if kind > 0:
                seen[-3 + kind] += 1
                total = int(counts[-3 + kind])
                prior = fluency.PRIOR * total + 1
                likely = (counts[code & 65535] + 0.5) / (total + 0.5 * fluency.ONES)
                likely = (counts[pair] + prior * likely) / (counts[b & 65535] + prior)
                if kind == 1:
                    likely = (counts[triple] + prior * likely) / (counts[twos + fluency.pair(a, b)] + prior)
                bits[kind] -= float(np.log2(min(likely, 1)))
                shown[kind] += 1
            a, b = (b, code) if kind > 0 else (0, 0)
        kind = 2 if 3 * shown[2] >= shown[1] else 1
        mean = bits[kind] / shown[kind] if shown[kind] >= fluency.LEAST else np.nan
        found.append((mean, np.nan) if kind == 1 else (np.nan, mean))
    return seen, found


def test_runs_of_plain_letters_are_read_as_all_others_are(model: Model) -> None:
    draw = random.Random(3)
    odd = [
        "a",
        "Z",
        "z",
        " ",
        "_",
        "7",
        "\0",
        "\n",
        "é",
        "Ä",
        "×",
        "ß",
        "ж",
        "Ж",
        "字",
        "、",
        "한",
        "\u0301",
        "😀",
        "𠀀",
        "\u200d",
    ]
    texts = ["", "a", "字", "😀", "\0", "A" * 30, "ab字cd é f", prose(5), chinese(6), "é" * 40_000, "字a" * 9_000]
    texts += ["".join(draw.choices(odd, k=draw.randrange(400))) for _ in range(60)]
    texts += ["".join(draw.choice((word(draw), draw.choice(odd))) for _ in range(4000)) for _ in range(3)]
    seen, bits = slowly(texts, model.counts)
    assert (count(column(*texts)) == seen).all()
    np.testing.assert_allclose(model.bits(column(*texts)), np.array(bits), rtol=1e-9)
    large = Model(model.counts * 2_000_000)
    assert large.counts.max() > 1 << 32
    _, bits = slowly(texts, large.counts)
    np.testing.assert_allclose(large.bits(column(*texts)), np.array(bits), rtol=1e-9)


def test_what_is_found_often_is_added_up() -> None:
    often = count(column(*["aaaa " * 1500] * 40))
    assert often[ord("a")] == 40 * 6000
    assert often[-2] == 40 * 6000
    assert (count(column("aaaa ")) == count(column("aaaa "))).all()


def test_long_texts_are_read_in_windows(model: Model) -> None:
    long = " ".join(prose(seed) for seed in range(300, 330))
    assert len(long) > 4 * fluency.WINDOW * fluency.WINDOWS
    read = count(column(long))[-2]
    assert read <= fluency.WINDOW * fluency.WINDOWS
    assert model.bits(column(long))[0, 0] == pytest.approx(model.bits(column(prose(1001)))[0, 0], abs=0.3)
    assert model.bits(column("中" * 20_000)).shape == (1, 2)


def test_a_small_corpus_says_nothing() -> None:
    small = Model(count(column(prose(1), chinese(1))))
    assert np.isnan(small.bits(column(prose(2), junk(2), chinese(3)))).all()


def test_saving(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model.npz")
    again = Model.load(tmp_path / "model.npz")
    texts = column(prose(3), chinese(3))
    assert np.array_equal(model.bits(texts), again.bits(texts), equal_nan=True)
    np.savez(tmp_path / "other.npz", counts=np.zeros(3, np.int64))
    with pytest.raises(RecordError, match=r"other.npz: a model of fluency of another shape"):
        Model.load(tmp_path / "other.npz")
    (tmp_path / "broken.npz").write_text("no")
    for name in ("broken.npz", "absent.npz"):
        with pytest.raises(RecordError, match=f"{name}: not a model of fluency"):
            Model.load(tmp_path / name)
