import random
from pathlib import Path

import numpy as np

from tutelage.corpus.facts import EXCERPT, SAMPLES, Facts, excerpt, size


def counted(numbers: range) -> Facts:
    facts = Facts()
    for number in numbers:
        facts.add("sources", f"s{number % 3}", 1, number)
        facts.add_histogram("length", [number % 2, 1])
        facts.sample("kept", str(number), {"id": number})
    return facts


def test_parts_add_up_to_the_whole_in_any_order(tmp_path: Path) -> None:
    whole = counted(range(200))
    pieces = [counted(range(start, start + 25)) for start in range(0, 200, 25)]
    random.Random(1).shuffle(pieces)
    total = Facts()
    for number, piece in enumerate(pieces):
        piece.write(tmp_path / f"{number}.json")
        total.merge(Facts.read(tmp_path / f"{number}.json"))
    assert total.tables == whole.tables
    assert total.histograms == whole.histograms == {"length": [100, 200]}
    assert total.shown("kept") == whole.shown("kept")
    assert len(whole.shown("kept")) == SAMPLES


def test_samples_are_drawn_from_all_of_it() -> None:
    drawn = [one["id"] for one in counted(range(10_000)).shown("kept")]
    assert min(drawn) < 3000
    assert max(drawn) > 7000


def test_many_at_once_are_as_one_by_one() -> None:
    draw = random.Random(4)
    for count in (0, 1, SAMPLES, 200):
        one, many = Facts(), Facts()
        for facts in (one, many):
            facts.add("languages", "en", 5, 50)
            facts.sample("kept", "first", {"row": "first"})
        keys = [draw.choice(["en", "zh", "", "a\tb"]) for _ in range(count)]
        sizes = np.array([draw.randrange(1 << 40) for _ in range(count)], np.int64)
        ids = [f"{draw.randrange(50)}{chr(0xD800)}" for _ in range(count)]
        for place, (key, weight, id) in enumerate(zip(keys, sizes.tolist(), ids, strict=True)):
            one.add("languages", key, 1, weight)
            one.add("sums", key, weight)
            one.sample("kept", id, {"row": place})
        many.add_all("languages", keys, 1, sizes)
        many.add_all("sums", keys, sizes)
        many.sample_all("kept", ids, lambda place: {"row": place})
        assert (many.tables, many.samples) == (one.tables, one.samples)


def test_sizes_and_excerpts() -> None:
    assert (size("ab"), size("文"), size("\ud800")) == (2, 3, 1)
    assert excerpt("a" * EXCERPT) == "a" * EXCERPT
    assert excerpt("a" * (EXCERPT + 1)).endswith("a …")
