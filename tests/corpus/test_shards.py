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
from tutelage.corpus.shards import Loader, Writer, permuted, read_index, verify
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
    assert np.concatenate([piece.tokens for piece in Loader(folder, 1000)]).tolist() == whole(0, 3)


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
    pieces = list(Loader(folder, length))
    assert len(pieces) == len(Loader(folder, length))
    for source, count in ((0, 40), (1, 9)):
        own = sorted((piece for piece in pieces if piece.source == f"source {source}"), key=lambda piece: piece.first)
        assert np.concatenate([piece.tokens for piece in own]).tolist() == whole(source, count)
        assert all(len(piece.tokens) == length for piece in own[:-1])


def test_pieces_know_where_documents_begin(folder: Path) -> None:
    for piece in Loader(folder, 16):
        begins = [0, *(i + 1 for i, token in enumerate(piece.tokens[:-1]) if token == END)]
        assert piece.starts.tolist() == begins


def test_the_order_is_shuffled_by_the_seed(folder: Path) -> None:
    def order(seed: int) -> list[tuple[str, int]]:
        return [(piece.source, piece.first) for piece in Loader(folder, 8, seed=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    own = [first for source, first in order(1) if source == "source 0"]
    assert own != sorted(own)


def test_sources_are_mixed_evenly(folder: Path) -> None:
    loader = Loader(folder, 8, epochs={"source 1": 3})
    names = [piece.source for piece in loader]
    share = names.count("source 1") / len(names)
    for stop in range(10, len(names)):
        assert abs(names[:stop].count("source 1") - share * stop) <= 1


def test_epochs(folder: Path) -> None:
    pieces = list(Loader(folder, 8, epochs={"source 0": 2.5, "source 1": 0}))
    counts = Counter((piece.source, piece.first) for piece in pieces)
    assert {source for source, _ in counts} == {"source 0"}
    windows = -(-len(whole(0, 40)) // 8)
    assert len(pieces) == round(2.5 * windows)
    assert set(counts.values()) == {2, 3}
    firsts = [piece.first for piece in pieces]
    assert sorted(firsts[:windows]) == sorted(firsts[windows : 2 * windows])
    assert firsts[:windows] != firsts[windows : 2 * windows]


@given(stop=st.integers(0, 60), readers=st.integers(1, 3))
@hypothesis_settings(deadline=None, max_examples=30)
def test_going_on_from_a_cursor(folder: Path, stop: int, readers: int) -> None:
    made = {"seed": 3, "epochs": {"source 1": 2.0}}
    every = [(piece.source, piece.first) for piece in Loader(folder, 8, **made)]
    for reader in range(readers):
        loader = Loader(folder, 8, reader=reader, of=readers, **made)
        found = [(piece.source, piece.first) for piece in itertools.islice(loader, stop)]
        state = json.loads(json.dumps(loader.state_dict()))
        again = Loader(folder, 8, reader=reader, of=readers, **made)
        again.load_state_dict(state)
        found += [(piece.source, piece.first) for piece in again]
        assert found == every[reader::readers]


def test_a_cursor_of_something_else(folder: Path) -> None:
    state = Loader(folder, 8).state_dict()
    for other in (Loader(folder, 9), Loader(folder, 8, seed=2), Loader(folder, 8, epochs={"source 0": 2})):
        with pytest.raises(RecordError, match="the cursor is of other shards, another length, seed or mixture"):
            other.load_state_dict(state)
    with pytest.raises(SettingsError, match="no source 'x': there are source 0, source 1"):
        Loader(folder, 8, epochs={"x": 1})


def test_shards_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"index.json: no index of shards: .*write them again"):
        Loader(tmp_path, 8)
    folder = written(tmp_path / "shards")
    path = folder / "000-00001.tokens"
    held = path.read_bytes()
    path.write_bytes(held[:-2])
    with pytest.raises(RecordError, match=r"000-00001.tokens: .* bytes, the index has .*: write the shards again"):
        Loader(folder, 8)
    path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    Loader(folder, 8)
    with pytest.raises(RecordError, match=r"000-00001.tokens: its checksum is not the index's"):
        verify(folder)
    path.unlink()
    for broken in (lambda: Loader(folder, 8), lambda: verify(folder)):
        with pytest.raises(RecordError, match=r"000-00001.tokens: .*write the shards again"):
            broken()
    (folder / "index.json").write_text('{"format": "another"}')
    with pytest.raises(RecordError, match="not the format 'tutelage token shards 1'"):
        Loader(folder, 8)


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
    assert [piece.tokens.tolist() for piece in Loader(tmp_path, 8)] == [[END, 5, END]]
    assert shards.TOKENS > 1 << 20
