import random

import numpy as np
import pyarrow as pa

from tutelage.corpus.edges import without
from tutelage.corpus.hashing import column


def test_stretches_go_however_they_lie() -> None:
    draw = random.Random(1)
    texts = ["", "中文字", "", *("".join(draw.choices("abcde", k=draw.randrange(30))) for _ in range(40)), ""]
    for given in (texts, pa.array(["before", *texts, "behind"], pa.large_string()).slice(1, len(texts))):
        text = column(given)
        keep = np.ones(len(text.data), dtype=bool)
        starts: list[int] = []
        ends: list[int] = []
        for row in range(3, len(texts)):
            for _ in range(draw.randrange(4)):
                low, high = sorted(draw.randint(int(text.offsets[row]), int(text.offsets[row + 1])) for _ in range(2))
                starts.append(low)
                ends.append(high)
                keep[low:high] = False
        left = without(text, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))
        left.validate(full=True)
        edges = zip(text.offsets, text.offsets[1:], strict=False)
        assert left.to_pylist() == [bytes(text.data[a:b][keep[a:b]]).decode() for a, b in edges]
        assert sum(map(len, left.to_pylist())) < sum(map(len, texts))


def test_a_text_that_loses_something_may_lose_the_line_breaks_at_its_ends() -> None:
    draw = random.Random(2)
    for _ in range(300):
        texts = ["".join(draw.choices("\n\n\na 中", k=draw.randrange(12))) for _ in range(6)]
        text = column(pa.array(["\n", *texts, "\n"], pa.large_string()).slice(1, len(texts)))
        stretches: list[tuple[int, int]] = []
        expected = list(texts)
        for row, whole in enumerate(texts):
            places = [len(whole[:place].encode()) for place in range(len(whole) + 1)]
            gone: set[int] = set()
            for _ in range(draw.randrange(4)):
                low, high = sorted((draw.choice(places), draw.choice(places)))
                stretches.append((int(text.offsets[row]) + low, int(text.offsets[row]) + high))
                gone |= set(range(low, high))
            if gone:
                kept = bytes(byte for place, byte in enumerate(whole.encode()) if place not in gone)
                expected[row] = kept.decode().strip("\n")
        draw.shuffle(stretches)
        starts, ends = np.array(stretches, dtype=np.int64).reshape(-1, 2).T
        left = without(text, starts, ends, trimmed=True)
        left.validate(full=True)
        assert left.to_pylist() == expected


def test_nothing_to_leave_out() -> None:
    texts = ["", "\nabc\n"]
    none = np.zeros(0, dtype=np.int64)
    assert without(column(texts), none, none).to_pylist() == texts
    assert without(column([]), none, none).to_pylist() == []
