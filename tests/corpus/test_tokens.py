"""Documents become token shards: by module, by pattern, and only as many as are wanted."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from tokenizers import Tokenizer

from tutelage.corpus import shards, tokens
from tutelage.corpus.pieces import Cut, Loader
from tutelage.corpus.tokens import REST, Wanted, write
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document

TOKENIZER: Tokenizer = tiny.make_tokenizer().backend_tokenizer


def corpus(count: int = 1500) -> list[Document]:
    """Of three sources in turn, in modules of up to five that do not lie together, a tenth held out."""
    rng = random.Random(1)
    return [
        Document(
            id=f"d{i}", text=f"{i} " + "the cat " * rng.randint(1, 20), source=f"{'abc'[i % 3]}/{i % 2}.txt",
            licence="CC0-1.0", language="en", split="held_out" if i % 10 == 3 else "train",
            metadata={"module": f"m{rng.randrange(count // 5)}"} if i % 2 else {},
        )
        for i in range(count)
    ]  # fmt: skip


DOCUMENTS = corpus()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("documents") / "documents.jsonl", DOCUMENTS)


def written(path: Path, folder: Path, weights: Mapping[str, float] | None = None, **values: Any) -> dict[str, Any]:
    for told in write(path, folder, TOKENIZER, tiny.END_OF_TEXT, Wanted(weights=weights or {}, **values)):
        assert "encoder" in told
    return shards.read_index(folder)["facts"]


def texts(folder: Path) -> dict[str, list[str]]:
    """The documents of each source of the shards, as they are read."""
    found: dict[str, list[str]] = {}
    for piece in Loader(folder, Cut(1 << 30)):
        row = TOKENIZER.decode(piece.tokens.tolist(), skip_special_tokens=False)
        found[piece.source] = row.split("<|endoftext|>")[:-1]
    return found


def test_every_training_document_is_there_once_and_modules_lie_together(path: Path, tmp_path: Path) -> None:
    facts = written(path, tmp_path / "a", held_out=7)
    train = [one for one in DOCUMENTS if one.split == "train"]
    read = texts(tmp_path / "a")[REST]
    assert sorted(read) == sorted(one.text for one in train)
    module = {one.text: one.metadata.get("module", one.id) for one in train}
    order = [module[text] for text in read]
    begun = [name for place, name in enumerate(order) if not place or order[place - 1] != name]
    assert len(begun) == len(set(begun)) < len(order)
    assert begun != list(dict.fromkeys(module.values()))
    assert [text for text in read if module[text] == order[0]] == [
        one.text for one in train if module[one.text] == order[0]
    ]
    assert facts["groups"][REST]["documents"] == len(train)
    assert sum(facts["groups"][REST]["sources"].values()) == len(train)
    assert facts["groups"][REST]["tokens"] == shards.read_index(tmp_path / "a")["sources"][0]["tokens"]
    assert facts["groups"][REST]["counted"]
    held_out = {one.text for one in DOCUMENTS if one.split == "held_out"}
    assert len(set(facts["held_out"]) & held_out) == len(facts["held_out"]) == 7
    assert written(path, tmp_path / "c", held_out=3, seed=2)["held_out"] != facts["held_out"][:3]
    assert texts(tmp_path / "c")[REST] != read
    assert written(path, tmp_path / "b", held_out=3)["held_out"] == facts["held_out"][:3]
    written(path, tmp_path / "b", held_out=7)
    for name in ("index.json", "000.order", "000-00000.tokens"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_patterns_name_sources(path: Path, tmp_path: Path) -> None:
    facts = written(path, tmp_path / "a", {"a/*": 2, "a/1.txt": 3, "b/*": 0})
    read = texts(tmp_path / "a")
    train = [one for one in DOCUMENTS if one.split == "train"]
    for pattern, wanted in (("a/*", ["a/0.txt"]), ("a/1.txt", ["a/1.txt"]), (REST, ["c/0.txt", "c/1.txt"])):
        assert sorted(read[pattern]) == sorted(one.text for one in train if one.source in wanted)
        assert sorted(facts["groups"][pattern]["sources"]) == wanted
    assert "b/*" not in read
    assert facts["groups"]["b/*"]["documents"] == sum(one.source[0] == "b" for one in train)
    assert facts["groups"]["b/*"]["tokens"] == 0


def test_a_source_that_is_none(path: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"weights: no source 'd/\*': there are (\w/\d.txt(, )?){6}$"):
        written(path, tmp_path / "a", {"d/*": 2})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("most", [300, 3000, 10**9])
def test_the_first_modules_are_taken_where_not_all_is_wanted(path: Path, tmp_path: Path, most: int) -> None:
    written(path, tmp_path / "all")
    facts = written(path, tmp_path / "some", most=most)
    every, some = texts(tmp_path / "all")[REST], texts(tmp_path / "some")[REST]
    assert some == every[: len(some)]
    index = shards.read_index(tmp_path / "some")["sources"][0]
    whole = shards.read_index(tmp_path / "all")["sources"][0]["tokens"]
    assert min(most, whole) <= index["reading"]["tokens"] <= index["tokens"] <= whole
    assert facts["groups"][REST]["tokens"] == pytest.approx(whole, rel=0.05)
    assert facts["groups"][REST]["counted"] == (most > whole)
    if most == 300:
        assert index["tokens"] < 0.75 * whole


def test_metadata_in_parquet(tmp_path: Path) -> None:
    """As JSON, as columns, or none; broken JSON is told with its document."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "id": str(i),
            "text": str(i % 2) * 9 + "x" * i,
            "source": "s",
            "licence": "MIT",
            "language": "en",
            "split": "train",
        }
        for i in range(8)
    ]
    json_modules = [{**row, "metadata": json.dumps({"module": row["text"][0]})} for row in rows]
    column_modules = [{**row, "metadata": {"module": row["text"][0]}} for row in rows]
    found: list[list[str]] = []
    for name, made in (("json", json_modules), ("columns", column_modules), ("none", rows)):
        pq.write_table(pa.Table.from_pylist(made), tmp_path / f"{name}.parquet")
        written(tmp_path / f"{name}.parquet", tmp_path / name)
        found.append([text[0] for text in texts(tmp_path / name)[REST]])
    assert found[0] == found[1] in (["0"] * 4 + ["1"] * 4, ["1"] * 4 + ["0"] * 4)
    assert found[2] != found[0]
    json_modules[3]["metadata"] = "{"
    pq.write_table(pa.Table.from_pylist(json_modules), tmp_path / "broken.parquet")
    with pytest.raises(RecordError, match=r"broken.parquet: document 3: metadata: broken JSON"):
        written(tmp_path / "broken.parquet", tmp_path / "broken")


def test_what_a_kill_left_is_written_anew(path: Path, tmp_path: Path) -> None:
    half = write(path, tmp_path / "a", TOKENIZER, tiny.END_OF_TEXT, Wanted(weights={}))
    next(half)
    half.close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.tmp"]
    written(path, tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    shards.verify(tmp_path / "a")


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    held_out = [replace(one, split="held_out") for one in DOCUMENTS[:5]]
    path = tiny.jsonl(tmp_path / "held.jsonl", held_out)
    with pytest.raises(SettingsError, match=r"held.jsonl: no document of the train split is long enough to learn from"):
        written(path, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert tokens.SHOWN > 5
