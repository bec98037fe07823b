import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.corpus.columns import Batch, allowances, batches, choose
from tutelage.errors import RecordError
from tutelage.records import Document, write


def documents(count: int = 100) -> list[Document]:
    draw = random.Random(7)
    return [
        Document(
            id=f"d{i}", text=draw.choice("abc字") * draw.randint(1, 90), source=f"s{i % 3}", licence="MIT",
            language="zh" if i % 5 == 0 else "en", split="held_out" if i % 10 == 3 else "train",
        )
        for i in range(count)
    ]  # fmt: skip


def parquet(folder: Path, rows: list[Document]) -> Path:
    folder.mkdir(parents=True)
    names = ("id", "text", "source", "licence", "language", "split")
    for number, start in enumerate(range(0, len(rows), 40)):
        part = rows[start : start + 40]
        table = pa.table(
            {name: [getattr(row, name) for row in part] for name in names} | {"metadata": ["{}"] * len(part)}
        )
        pq.write_table(table, folder / f"{number:05d}.parquet")
    return folder


def rows(found: Iterator[Batch]) -> list[tuple[str, str, str, str, str, bool]]:
    return [
        row
        for batch in found
        for row in zip(
            batch.ids, batch.texts.to_pylist(), batch.sources, batch.licences, batch.languages, batch.held_out,
            strict=True,
        )
    ]  # fmt: skip


def test_parquet_and_jsonl_give_the_same(tmp_path: Path) -> None:
    made = documents()
    write(tmp_path / "documents.jsonl", made)
    expected = [(d.id, d.text, d.source, d.licence, d.language, d.split == "held_out") for d in made]
    assert rows(batches(tmp_path / "documents.jsonl")) == expected
    assert rows(batches(parquet(tmp_path / "run" / "documents", made).parent)) == expected
    batch = next(batches(tmp_path / "run"))
    taken = batch.take([5, 3])
    assert len(taken) == 2
    assert rows(iter([taken])) == [expected[5], expected[3]]


def test_faults_are_told_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        list(batches(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    pq.write_table(pq.read_table(parquet(tmp_path / "full", documents(1)))[:0], tmp_path / "empty" / "0.parquet")
    with pytest.raises(RecordError, match="empty: it should hold at least one Document"):
        list(batches(tmp_path / "empty"))
    pq.write_table(pa.table({"id": ["1"], "text": ["x"]}), tmp_path / "less.parquet")
    with pytest.raises(RecordError, match=r"less.parquet: row 1: .*"):
        list(batches(tmp_path / "less.parquet"))


@pytest.mark.parametrize(("name", "value"), [("split", "test"), ("text", None), ("text", ""), ("source", None)])
def test_parquet_is_not_taken_on_trust(name: str, value: str | None, tmp_path: Path) -> None:
    folder = parquet(tmp_path / "run", documents(3))
    (file,) = folder.rglob("*.parquet")
    table = pq.read_table(file)
    column = [*table[name].to_pylist()[:-1], value]
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, pa.array(column, pa.string())), file)
    with pytest.raises(RecordError, match=rf"row 3: {name}"):
        list(batches(folder))


def chosen(
    made: list[Document], tmp_path: Path, megabytes: float, **options: float
) -> tuple[list[str], dict[str, int]]:
    write(tmp_path / "documents.jsonl", made)
    return choose(lambda: batches(tmp_path / "documents.jsonl"), megabytes, **{"seed": 1, **options})  # pyright: ignore


def test_the_text_is_bounded_and_drawn(tmp_path: Path) -> None:
    made = documents()
    texts, taken = chosen(made, tmp_path, 0.002)
    training = {document.text for document in made if document.split == "train"}
    assert 1200 < sum(len(text.encode()) for text in texts) == sum(taken.values()) <= 2000
    assert set(texts) <= training
    assert texts != [document.text for document in made[: len(texts)]]
    assert chosen(made, tmp_path, 0.002, seed=2)[0] != texts
    assert chosen(list(reversed(made)), tmp_path, 0.002)[0] == texts
    assert len(chosen(made, tmp_path, 1e-9)[0]) == 1
    assert len(chosen(made, tmp_path, 1)[0]) == sum(document.split == "train" for document in made)


def test_languages_are_balanced(tmp_path: Path) -> None:
    made = documents(1000)
    by_size = chosen(made, tmp_path, 0.01)[1]
    alike = chosen(made, tmp_path, 0.01, balance=0.0)[1]
    assert by_size["en"] > 2.5 * by_size["zh"]
    assert alike["en"] == pytest.approx(alike["zh"], rel=0.1)


def test_what_one_language_has_too_little_of_goes_to_others() -> None:
    assert allowances({"a": 100, "b": 100}, 100, 1) == {"a": 50, "b": 50}
    assert allowances({"a": 300, "b": 100}, 100, 1) == {"a": 75, "b": 25}
    assert allowances({"a": 300, "b": 10, "c": 0}, 100, 0) == {"b": 10, "a": 90}
    assert allowances({"a": 30, "b": 10}, 100, 0.5) == {"a": 30, "b": 10}
    assert allowances({"a": 900, "b": 100}, 100, 0.5) == {"a": 75, "b": 25}
