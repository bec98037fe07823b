import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tutelage.corpus import shards
from tutelage.corpus.pieces import Cut, Loader, permuted
from tutelage.corpus.shards import Writer, read_index, verify
from tutelage.errors import RecordError, SettingsError

END = 1


def document(source: int, place: int) -> list[int]:
    """Ids that tell where they are from: the source, the document, and the place in it."""
    return [2 + source * 10_000 + place * 20 + i for i in range(3 + place % 7)]


def written(folder: Path, counts: tuple[int, ...] = (40, 9), most: int = 60, vocabulary: int = 40_000) -> Path:
    writer = Writer(folder, vocabulary=vocabulary, tokenizer="hash", end=END, tokens=most)
    for start in range(0, max(counts), 4):
        for source, count in enumerate(counts):
            places = range(start, min(start + 4, count))
            ids = [document(source, place) for place in places]
            ends = np.cumsum([0, *map(len, ids)])
            names = [f"{source}-{place}" for place in places]
            writer.add(
                f"source {source}",
                np.array([token for found in ids for token in found], np.uint32),
                ends,
                names,
                ["MIT"] * len(ids),
                ["en"] * len(ids),
            )
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards") / "shards")


def whole(source: int, count: int) -> list[int]:
    return [token for place in range(count) for token in [*document(source, place), END]]


def test_what_is_on_disk(folder: Path) -> None:
    index = read_index(folder)
    assert [source["name"] for source in index["sources"]] == ["source 0", "source 1"]
    assert [source["documents"] for source in index["sources"]] == [40, 9]
    assert index["type"] == "<u2"
    first = index["sources"][0]
    assert len(first["shards"]) > 2
    tokens = np.concatenate([np.fromfile(folder / f"{shard['name']}.tokens", "<u2") for shard in first["shards"]])
    assert tokens.tolist() == whole(0, 40)
    rows = [row for shard in first["shards"] for row in pq.read_table(folder / f"{shard['name']}.parquet").to_pylist()]
    assert rows[5] == {"id": "0-5", "licence": "MIT", "language": "en", "tokens": len(document(0, 5)) + 1}
    assert len(rows) == 40
    verify(folder)


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    folder = written(tmp_path / "shards", counts=(3,), vocabulary=70_000)
    assert read_index(folder)["type"] == "<u4"
    assert np.concatenate([piece.tokens for piece in Loader(folder, Cut(1000))]).tolist() == whole(0, 3)


def test_the_same_documents_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "left by a kill").write_text("x")
    again = written(tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("length", [1, 7, 16, 64, 1000])
def test_every_token_is_read_once(folder: Path, length: int) -> None:
    pieces = list(Loader(folder, Cut(length)))
    assert len(pieces) == len(Loader(folder, Cut(length)))
    for source, count in ((0, 40), (1, 9)):
        own = sorted((piece for piece in pieces if piece.source == f"source {source}"), key=lambda piece: piece.first)
        assert np.concatenate([piece.tokens for piece in own]).tolist() == whole(source, count)
        assert all(len(piece.tokens) == length for piece in own[:-1])


@pytest.mark.parametrize("length", [2, 7, 16, 1000])
@pytest.mark.parametrize("alone", [False, True])
def test_pieces_overlap_so_that_every_token_is_predicted_once(folder: Path, length: int, alone: bool) -> None:
    loader = Loader(folder, Cut(length, overlap=1, alone=alone))
    pieces = list(loader)
    assert loader.tokens == sum(len(piece.tokens) for piece in pieces)
    for source, count in ((0, 40), (1, 9)):
        own = sorted((piece for piece in pieces if piece.source == f"source {source}"), key=lambda piece: piece.first)
        predicted = [token for piece in own for token in piece.tokens[1:].tolist()]
        row = whole(source, count)
        firsts = {place * 20 + 2 + source * 10_000 for place in range(count if alone else 1)}
        assert predicted == [token for token in row if token not in firsts]
        assert min(len(piece.tokens) for piece in own) >= 2
        if alone:
            assert all(END not in piece.tokens[:-1] for piece in own)


def test_documents_are_read_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    """Some of them, over the borders of files; the others stay on the disk and are not read."""
    writer = Writer(tmp_path, vocabulary=40_000, tokenizer="", end=END, tokens=20)
    texts = [document(0, place) for place in range(12)]
    ends = np.cumsum([0, *map(len, texts)])
    ids = np.array([token for text in texts for token in text], np.uint32)
    names = [str(place) for place in range(12)]
    writer.add("s", ids, ends, names, names, names)
    order = [9, 3, 4, 0, 11]
    index = writer.finish({"s": np.array(order)})
    row = [token for place in order for token in [*texts[place], END]]
    assert len(index["sources"][0]["shards"]) > 3
    assert index["sources"][0]["documents"] == 12
    assert index["sources"][0]["reading"]["documents"] == 5
    assert index["sources"][0]["reading"]["tokens"] == len(row)
    (piece,) = Loader(tmp_path, Cut(1000))
    assert piece.tokens.tolist() == row
    assert [row[start] for start in piece.starts] == [texts[place][0] for place in order]
    pieces = sorted(Loader(tmp_path, Cut(7, alone=True)), key=lambda piece: piece.first)
    assert [token for piece in pieces for token in piece.tokens.tolist()] == row
    (tmp_path / "000.order").write_bytes((tmp_path / "000.ends").read_bytes())
    with pytest.raises(RecordError, match=r"000.order: its checksum is not the index's"):
        verify(tmp_path)


def test_pieces_know_where_documents_begin(folder: Path) -> None:
    for piece in Loader(folder, Cut(16)):
        begins = [0, *(i + 1 for i, token in enumerate(piece.tokens[:-1]) if token == END)]
        assert piece.starts.tolist() == begins


def test_the_order_is_shuffled_by_the_seed(folder: Path) -> None:
    def order(seed: int) -> list[tuple[str, int]]:
        return [(piece.source, piece.first) for piece in Loader(folder, Cut(8), seed=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    own = [first for source, first in order(1) if source == "source 0"]
    assert own != sorted(own)


def test_sources_are_mixed_evenly(folder: Path) -> None:
    loader = Loader(folder, Cut(8), epochs={"source 1": 3})
    names = [piece.source for piece in loader]
    share = names.count("source 1") / len(names)
    for stop in range(10, len(names)):
        assert abs(names[:stop].count("source 1") - share * stop) <= 1


def test_epochs(folder: Path) -> None:
    pieces = list(Loader(folder, Cut(8), epochs={"source 0": 2.5, "source 1": 0}))
    counts = Counter((piece.source, piece.first) for piece in pieces)
    assert {source for source, _ in counts} == {"source 0"}
    windows = -(-len(whole(0, 40)) // 8)
    assert len(pieces) == round(2.5 * windows)
    assert set(counts.values()) == {2, 3}
    firsts = [piece.first for piece in pieces]
    assert sorted(firsts[:windows]) == sorted(firsts[windows : 2 * windows])
    assert firsts[:windows] != firsts[windows : 2 * windows]


@given(stop=st.integers(0, 60), alone=st.booleans())
@hypothesis_settings(deadline=None, max_examples=30)
def test_going_on_from_a_cursor(folder: Path, stop: int, alone: bool) -> None:
    made = {"cut": Cut(8, overlap=1, alone=alone), "seed": 3, "epochs": {"source 1": 2.0}}
    every = [(piece.source, piece.first) for piece in Loader(folder, **made)]
    loader = Loader(folder, **made)
    found = [(piece.source, piece.first) for piece in itertools.islice(loader, stop)]
    assert [(piece.source, piece.first) for piece in loader.peek(3)] == every[stop : stop + 3]
    state = json.loads(json.dumps(loader.state_dict()))
    again = Loader(folder, **made)
    again.load_state_dict(state)
    found += [(piece.source, piece.first) for piece in again]
    assert found == every


def test_a_cursor_of_something_else(folder: Path) -> None:
    state = Loader(folder, Cut(8)).state_dict()
    for other in (
        Loader(folder, Cut(9)),
        Loader(folder, Cut(8), seed=2),
        Loader(folder, Cut(8), epochs={"source 0": 2}),
    ):
        with pytest.raises(RecordError, match="the cursor is of other shards, another cut, seed or mixture"):
            other.load_state_dict(state)
    with pytest.raises(SettingsError, match="no source 'x': there are source 0, source 1"):
        Loader(folder, Cut(8), epochs={"x": 1})


def test_shards_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"index.json: no index of shards: .*write them again"):
        Loader(tmp_path, Cut(8))
    folder = written(tmp_path / "shards")
    path = folder / "000-00001.tokens"
    held = path.read_bytes()
    path.write_bytes(held[:-2])
    with pytest.raises(RecordError, match=r"000-00001.tokens: .* bytes, the index has .*: write the shards again"):
        Loader(folder, Cut(8))
    path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    Loader(folder, Cut(8))
    with pytest.raises(RecordError, match=r"000-00001.tokens: its checksum is not the index's"):
        verify(folder)
    path.unlink()
    for broken in (lambda: Loader(folder, Cut(8)), lambda: verify(folder)):
        with pytest.raises(RecordError, match=r"000-00001.tokens: .*write the shards again"):
            broken()
    (folder / "index.json").write_text('{"format": "another"}')
    with pytest.raises(RecordError, match="not the format 'tutelage token shards 2'"):
        Loader(folder, Cut(8))


@given(size=st.integers(1, 500), key=st.integers(0, 2**64 - 1))
@hypothesis_settings(deadline=None, max_examples=60)
def test_a_permutation(size: int, key: int) -> None:
    assert sorted(permuted(place, size, key) for place in range(size)) == list(range(size))


def test_permutations_look_random() -> None:
    """Over many keys each place goes everywhere about equally often."""
    counts = np.zeros((10, 10))
    for number in range(4000):
        key = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8], "big")
        for place in range(10):
            counts[place, permuted(place, 10, key)] += 1
    assert np.abs(counts / 400 - 1).max() < 0.25
    assert 0 <= permuted(10**15, 10**16, 5) < 10**16


def test_a_document_without_tokens(tmp_path: Path) -> None:
    writer = Writer(tmp_path, vocabulary=10, tokenizer="", end=END)
    writer.add("s", np.array([5], np.uint32), np.array([0, 0, 1]), ["a", "b"], ["MIT"] * 2, ["en"] * 2)
    assert writer.finish()["sources"][0]["tokens"] == 3
    assert [piece.tokens.tolist() for piece in Loader(tmp_path, Cut(8))] == [[END, 5, END]]
    assert shards.TOKENS > 1 << 20
