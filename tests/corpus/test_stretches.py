import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage.corpus import stretches, tables
from tutelage.corpus.facts import Facts
from tutelage.corpus.parts import Bench
from tutelage.records import Document

LENGTH = 40


def words(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(10**6)}" for _ in range(count))


def document(id: str, text: str, metadata: dict[str, str] | None = None) -> Document:
    return Document(id=id, text=text, source="s", licence="own", language="en", metadata=metadata or {})


def done(
    root: Path, documents: Sequence[Document], sizes: Sequence[int], gone: Sequence[int] = (), at_once: int = 1 << 20
) -> tuple[list[str], list[tuple[int, str]]]:
    """The texts, and (document, the id of the one that keeps it) of each stretch."""
    bench = Bench(root)
    edges = [0, *itertools.accumulate(sizes)]
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        stays = np.array([place not in gone for place in range(first, last)], dtype=bool)
        some = list(documents[first:last])
        left = stretches.Left(tables.document_table(some), stays, tables.refusal_table([]), Facts())
        stretches.write(bench, number, left, LENGTH)
    stretches.settle(bench, sizes, LENGTH, at_once)
    found_texts: list[str] = []
    removed: list[tuple[int, str]] = []
    for number, first in enumerate(edges[:-1]):
        left = stretches.read(bench, number)
        left, found = stretches.cut(bench, number, left, sizes, LENGTH)
        found_texts += left.documents.column("text").to_pylist()
        removed += [(first + one.row, one.original) for one in found]
    return found_texts, removed


def test_a_stretch_stays_in_the_first_that_stays(tmp_path: Path) -> None:
    shared = words(60, 1)
    texts = [f"{words(30, 10 + n)}\n{shared}\n{words(30, 20 + n)}" for n in range(4)]
    documents = [document(f"d{n}", text) for n, text in enumerate(texts)]
    left, removed = done(tmp_path, documents, [1, 2, 1], gone=[0])
    assert [shared in text for text in left] == [True, True, False, False]
    assert left[2] == texts[2].replace(shared + "\n", "")
    assert removed == [(2, "d1"), (3, "d1")]


def test_how_parts_are_cut_and_keys_are_held_changes_nothing(tmp_path: Path) -> None:
    draw = random.Random(3)
    shared = [words(draw.randrange(40, 120), seed) for seed in range(5)]
    documents = [
        document(f"d{n}", f"{words(30, 100 + n)} {shared[draw.randrange(5)]} {words(30, 200 + n)}") for n in range(20)
    ]
    whole = done(tmp_path / "whole", documents, [20])
    assert len(whole[1]) == 15
    assert done(tmp_path / "parts", documents, [3, 0, 16, 1], at_once=7) == whole


def test_the_heading_of_a_documented_object_stays(tmp_path: Path) -> None:
    heading, shared = f"name({words(50, 1)})\n\n", words(60, 2)
    metadata = {"kind": "function", "name": "name"}
    documents = [document(str(n), f"{heading}{shared}\n\n{words(20 * n, n)}", metadata) for n in range(2)]
    left, _ = done(tmp_path, documents, [2])
    assert left == [documents[0].text, heading + words(20, 1)]
