"""Records are checked line by line; a fault names its line."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage import records
from tutelage.errors import RecordError
from tutelage.records import Comparison, Conversation, Document, Message, Rating, Verdict, identify, read, write

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
CONVERSATION: dict[str, Any] = {"id": "c", "messages": [USER, ANSWER]}
COMPARISON: dict[str, Any] = {"id": "c", "prompt": [USER], "responses": ["a", "b"], "ranks": [1, 2], "judge": "person"}
RATING: dict[str, Any] = {
    "id": "r", "prompt": [USER], "response": "a", "axis": "help", "score": 3, "scale": [1, 5], "judge": "model",
}  # fmt: skip
VERDICT: dict[str, Any] = {"id": "v", "prompt": [USER], "response": "a", "good": True, "judge": "rule"}
DOCUMENT: dict[str, Any] = {"id": "d", "text": "words", "source": "s", "licence": "MIT", "language": "en"}


def lines(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (Conversation, CONVERSATION),
        (Comparison, COMPARISON),
        (Rating, RATING),
        (Verdict, VERDICT),
        (Document, DOCUMENT),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, kind: type[Any], row: dict[str, Any]) -> None:
    (record,) = read(lines(tmp_path / "a.jsonl", row), kind)
    for name in ("b.jsonl", "b.jsonl.gz"):
        assert write(tmp_path / name, [record, record]) == 2
        assert list(read(tmp_path / name, kind)) == [record, record]
    assert not list(tmp_path.glob("*.tmp"))


@given(st.text(), st.text(min_size=1).filter(str.strip), st.lists(st.text(), max_size=3))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, rater: str, content: str, tags: list[str]) -> None:
    file = tmp_path_factory.mktemp("t") / "a.jsonl"
    messages = (Message(role="user", content=content), Message(role="assistant", content=content))
    record = Conversation(id="x", messages=messages, rater=rater, documents=tuple(tags))
    write(file, [record])
    assert list(read(file, Conversation)) == [record]


WRONG: list[tuple[type[Any], object, str]] = [
    (Conversation, '{"id": "c", ', "a.jsonl:2: broken JSON at column 12: "),
    (Conversation, {"id": "c", "messages": [{"role": "usr", "content": "x"}]},
     'a.jsonl:2: messages.0.role "usr": write system, user, assistant, tool'),
    (Conversation, {"id": "c", "messages": []}, "a.jsonl:2: messages: empty"),
    (Conversation, {"id": "c", "messages": [ANSWER]}, "a.jsonl:2: messages: begin with the assistant"),
    (Conversation, {"id": "c", "messages": [USER, {"role": "assistant", "content": " "}]},
     "a.jsonl:2: messages.1: empty assistant turn"),
    (Conversation, {"id": "c"}, "a.jsonl:2: messages: missing"),
    (Conversation, {**CONVERSATION, "speaker": "x"}, "a.jsonl:2: speaker: unknown field"),
    (Conversation, [1], "a.jsonl:2: "),
    (Comparison, {**COMPARISON, "responses": ["a", "a"]}, "a.jsonl:2: responses.0 and responses.1 are identical but"),
    (Comparison, {**COMPARISON, "responses": ["a", "a"], "ranks": [1, 1]}, "a.jsonl:2: responses are identical: "),
    (Comparison, {**COMPARISON, "responses": ["a"], "ranks": [1]}, "a.jsonl:2: responses: 1: a comparison has at leas"),
    (Comparison, {**COMPARISON, "ranks": [1]}, "a.jsonl:2: ranks: 1 for 2 responses"),
    (Comparison, {**COMPARISON, "ranks": [0, 1]}, "a.jsonl:2: ranks: 0: 1 is the best rank"),
    (Comparison, {**COMPARISON, "responses": ["a", ""]}, "a.jsonl:2: responses.1: empty"),
    (Comparison, {**COMPARISON, "prompt": []}, "a.jsonl:2: prompt: empty"),
    (Comparison, {**COMPARISON, "prompt": [USER, ANSWER]}, "a.jsonl:2: prompt: ends with the assistant"),
    (Comparison, {**COMPARISON, "judge": "crowd"}, "a.jsonl:2: judge \"crowd\": "),
    (Rating, {**RATING, "score": math.nan}, "a.jsonl:2: score NaN: "),
    (Rating, {**RATING, "score": 6}, "a.jsonl:2: score 6.0: outside its scale 1 to 5"),
    (Rating, {**RATING, "response": ""}, "a.jsonl:2: response: empty"),
    (Verdict, {**VERDICT, "good": "perhaps"}, "a.jsonl:2: good \"perhaps\": "),
    (Document, {**DOCUMENT, "text": " \n"}, "a.jsonl:2: text: empty"),
]  # fmt: skip
GOOD = {Conversation: CONVERSATION, Comparison: COMPARISON, Rating: RATING, Verdict: VERDICT, Document: DOCUMENT}


@pytest.mark.parametrize(("kind", "row", "expected"), WRONG)
def test_a_fault_names_its_line(tmp_path: Path, kind: type[Any], row: object, expected: str) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD[kind], row)
    with pytest.raises(RecordError) as found:
        list(read(file, kind))
    assert str(found.value).removeprefix(f"{tmp_path}/").startswith(expected)
    assert "\n" not in str(found.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.jsonl: no such file"):
        list(read(tmp_path / "none.jsonl", Verdict))
    with pytest.raises(RecordError, match=r"a\.jsonl: empty: it should hold at least one Verdict"):
        list(read(lines(tmp_path / "a.jsonl"), Verdict))
    (tmp_path / "b.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(RecordError, match="not UTF-8 at byte"):
        list(read(tmp_path / "b.jsonl", Verdict))
    (tmp_path / "half.jsonl").write_text('{"id": "\\ud83d"}\n')
    with pytest.raises(RecordError, match=r"half\.jsonl:1: half a character, .*ud83d: its text was cut inside it"):
        list(read(tmp_path / "half.jsonl", Verdict))
    (tmp_path / "deep.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(RecordError, match=r"deep\.jsonl:1: JSON that cannot be read"):
        list(read(tmp_path / "deep.jsonl", Verdict))
    (tmp_path / "c.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(RecordError, match=r"named \.gz but not gzip data"):
        list(read(tmp_path / "c.jsonl.gz", Verdict))
    (tmp_path / "d.parquet").write_bytes(b"plain")
    with pytest.raises(RecordError, match="not a Parquet file"):
        list(read(tmp_path / "d.parquet", Document))


def test_a_gzip_file_that_was_cut_off(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(VERDICT).encode() * 100)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match=r"a\.jsonl\.gz"):
        list(read(tmp_path / "a.jsonl.gz", Verdict))


def test_a_parquet_file_that_lacks_a_column(tmp_path: Path) -> None:
    row = {key: value for key, value in DOCUMENT.items() if key != "licence"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    with pytest.raises(RecordError, match=r"a\.parquet: row 1: licence: missing"):
        list(read(tmp_path / "a.parquet", Document))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**DOCUMENT, "metadata": "{"}]), tmp_path / "b.parquet")
    with pytest.raises(RecordError, match=r"b\.parquet: row 1: metadata: broken JSON"):
        list(read(tmp_path / "b.parquet", Document))


def test_documents_of_a_run_in_parquet(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    rows = [{**DOCUMENT, "id": str(n), "split": "held_out", "metadata": '{"name": "x"}'} for n in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[:2]), tmp_path / "documents/0.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[2:]), tmp_path / "documents/1.parquet")
    lines(tmp_path / "metrics.jsonl", {"step": 1})
    found = list(read(tmp_path, Document))
    assert [document.id for document in found] == ["0", "1", "2"]
    assert (found[0].split, found[0].metadata) == ("held_out", {"name": "x"})


def test_pairs_of_a_ranking() -> None:
    record = Comparison(
        id="x", prompt=(Message(role="user", content="q"),), responses=("a", "b", "c"), ranks=(2, 1, 2), judge="rule"
    )
    assert record.pairs() == [(1, 0), (1, 2)]


def test_prompt_and_answer() -> None:
    question, reply = Message(role="user", content="q"), Message(role="assistant", content="a")
    whole = Conversation(id="x", messages=(question, reply))
    assert (whole.prompt, whole.answer) == ((question,), "a")
    open_ = Conversation(id="x", messages=(question,))
    assert (open_.prompt, open_.answer) == ((question,), None)


def test_an_id_is_of_the_content_alone() -> None:
    assert identify("a", 1, {"x": 1, "y": 2}) == identify("a", 1, {"y": 2, "x": 1})
    assert identify("a", 1) != identify("a", "1")
    assert identify("ab", "c") != identify("a", "bc")
    assert len(identify("中文")) == 16


def test_nothing_half_written(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [Verdict(id="old", prompt=(Message(role="user", content="q"),), response="a", good=True, judge="rule")],
    )

    def failing() -> Any:
        yield Verdict(id="new", prompt=(Message(role="user", content="q"),), response="a", good=True, judge="rule")
        raise RecordError("broken")

    with pytest.raises(RecordError):
        write(tmp_path / "a.jsonl", failing())
    assert [record.id for record in read(tmp_path / "a.jsonl", Verdict)] == ["old"]
    assert records.as_json(next(read(tmp_path / "a.jsonl", Verdict)))["id"] == "old"
