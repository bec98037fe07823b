import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tutelage.corpus import fluency
from tutelage.corpus.fluency import Model, count
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
