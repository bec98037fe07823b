import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.corpus import testsets
from tutelage.errors import RecordError


def question(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(12))


def test_tests_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"tid": f"q{n}", "lang": "en", "question": question(n), "answer": str(n)} for n in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.json").write_text(json.dumps({"name": "x", "examples": rows}))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text(
        "tid,question,answer\n" + "".join(f"{row['tid']},{row['question']},{row['answer']}\n" for row in rows)
    )
    (tmp_path / "f.txt").write_text("\n\n".join(row["question"] for row in rows))
    for name in ("a.jsonl", "b.jsonl.gz", "c.json", "d.parquet", "e.csv"):
        found = testsets.read([str(tmp_path / name)])
        asked = [one for one in found if one.field == "question"]
        assert [(one.test, one.id, one.text) for one in asked] == [(name, row["tid"], row["question"]) for row in rows]
        assert {one.field for one in found} == {"question", "question+answer"}
        assert [one.field for one in testsets.read([str(tmp_path / name)], ["answer"])] == ["answer"] * 3
    assert [one.text for one in testsets.read([str(tmp_path / "f.txt")])] == [row["question"] for row in rows]


def test_choices_are_read_with_the_question(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    row = {"question": "Which one?", "choices": {"text": ["red house", "blue boat"], "label": ["A", "B"]}}
    path.write_text(json.dumps(row))
    (found,) = testsets.read([str(path)])
    assert found.field == "question+choices"
    assert found.text == "Which one?\nred house\nblue boat\nA\nB"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{", "a.jsonl:1"),
        ("b.json", "{", "not JSON"),
        ("c.json", "3", "neither a list"),
        ("d.parquet", "x", "not a Parquet file"),
        ("e.txt", "\n\n", "no text"),
        ("f.jsonl", '{"question": "What do you think of it, and why do you?"}', "none of the fields wanted"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RecordError, match=message) as error:
        testsets.read([str(path)], ["wanted"] if name.startswith("f") else [])
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.jsonl: no such file"):
        testsets.read([str(tmp_path / "none.jsonl")])
