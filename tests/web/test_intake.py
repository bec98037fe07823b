"""Files of others become items; what is broken is named by its row, and what would break us is refused."""

import gzip
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tutelage.feedback import exchange
from tutelage.feedback.snapshot import Asked, Candidate, Given, Opinion, Row
from tutelage.records import Message
from tutelage.web import intake
from tutelage.web.items import NewItem
from tutelage.web.refusal import Refusal


def read(tmp_path: Path, name: str, content: bytes | str, **more) -> list[NewItem]:
    (tmp_path / "upload").write_bytes(content.encode() if isinstance(content, str) else content)
    return list(intake.items(tmp_path / "upload", name, **more))


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "row",
    [{"prompt": "p", "responses": ["a", "b"]}, {"prompt": "p", "chosen": "a", "rejected": "b"},
     {"prompt": "p", "response_a": "a", "response_b": "b"}, {"prompt": "p", "response1": "a", "response2": "b"},
     {"prompt": [{"role": "user", "content": "p"}], "responses": [{"text": "a"}, {"text": "b"}]},
     {"chosen": "\n\nHuman: p\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: b"},
     {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]},
     {"instruction": "p", "input": "", "output": ["a", "b"]},
     {"data": {"prompt": "p", "answer1": "a", "answer2": "b"}, "annotations": []},
     {"fields": {"prompt": "p", "response-1": "a", "response-2": "b"}, "responses": {}},
     {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 0, "safer_response_id": 1}],
)  # fmt: skip
def test_each_shape_becomes_the_same_item(tmp_path, row) -> None:
    (item,) = read(tmp_path, "x.jsonl", jsonl(row), need=3)
    assert item.prompt == (Message(role="user", content="p"),)
    assert [one.text for one in item.responses] == ["a", "b"]
    assert item.need == 3


@pytest.mark.parametrize("worth", ["much", -1, "nan", "inf", [1]])
def test_a_worth_is_a_number(tmp_path, worth) -> None:
    row = {"prompt": "p", "responses": ["a", "b"]}
    assert [item.worth for item in read(tmp_path, "x.jsonl", jsonl(row, {**row, "worth": "0.5"}))] == [None, 0.5]
    with pytest.raises(Refusal, match="row 1: worth: a number from 0"):
        read(tmp_path, "x.jsonl", jsonl({**row, "worth": worth}))


def test_what_stands_beside(tmp_path) -> None:
    row = {
        "prompt": "p", "responses": ["a", "b"], "models": ["m", ""], "gold": {"better": 2}, "explanation": "why",
        "need": 5, "language": "en", "source": "s", "split": "held_out",
    }  # fmt: skip
    (item,) = read(tmp_path, "x.json", json.dumps([row]))
    assert (item.lane, item.gold, item.explanation, item.need, item.language, item.source, item.split) == (
        "gold", {"better": 2}, "why", 5, "en", "s", "held_out",
    )  # fmt: skip
    assert [one.model for one in item.responses] == ["m", ""]


def test_tables_and_packed_files(tmp_path) -> None:
    table = 'prompt,response_a,response_b,gold\n"p, q",a,"b\nb",\nr,c,d,"{""better"": 1}"\n'
    first, second = read(tmp_path, "x.csv", "\ufeff" + table)
    assert first.prompt[0].content == "p, q"
    assert first.responses[1].text == "b\nb"
    assert second.gold == {"better": 1}
    assert [one.prompt for one in read(tmp_path, "x.csv.gz", gzip.compress(table.encode()))] == [
        first.prompt, second.prompt,
    ]  # fmt: skip
    columns = pyarrow.table({"prompt": ["p"], "responses": [["a", "b"]], "models": [["m1", "m2"]]})
    out = io.BytesIO()
    pyarrow.parquet.write_table(columns, out)
    (item,) = read(tmp_path, "x.parquet", out.getvalue())
    assert [one.model for one in item.responses] == ["m1", "m2"]


def test_what_we_export_comes_back_as_items(tmp_path) -> None:
    asked = (Asked(key="better", kind="compare", dimension="overall"),)
    opinion = Opinion(id="j", rater="r", values=(Given(question="better", num=2.0),))
    row = Row(
        item="I", prompt=(Message(role="user", content="p"),), answers=(opinion,),
        responses=(Candidate(text="a"), Candidate(text="b")),
    )  # fmt: skip
    for name in ("preference", "hh", "arena", "ranking", "alpaca", "open_assistant", "label_studio", "argilla",
                 "snapshot"):  # fmt: skip
        content = b"".join(exchange.export(name, asked, [row]))
        (item,) = read(tmp_path, exchange.SHAPES[name].file_name, content)
        assert [one.text for one in item.responses] == ["a", "b"], name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("x.jsonl", "", "no rows"), ("x.jsonl", '{"prompt": "p"\n', "row 1: broken JSON"),
     ("x.jsonl", jsonl({"prompt": "p", "responses": ["a", "b"]}, [1]), "row 2: found"),
     ("x.jsonl", jsonl({"prompt": "", "responses": ["a", "b"]}), "row 1: prompt"),
     ("x.jsonl", jsonl({"prompt": "p", "responses": "a"}), "row 1: responses"),
     ("x.jsonl", jsonl({"prompt": "p", "responses": ["a", 3]}), "row 1: response 2"),
     ("x.jsonl", jsonl({"prompt": "p", "responses": ["a"], "gold": [1]}), "row 1: gold"),
     ("x.jsonl", jsonl({"prompt": "p", "responses": ["a"], "need": "many"}), "row 1: need"),
     ("x.jsonl", jsonl({"prompt": "p", "responses": ["a"], "lane": "fast"}), "row 1: lane"),
     ("x.jsonl", '{"prompt": "p", "responses": ["a"], "need": NaN}', "NaN is no number"),
     ("x.jsonl", b'{"prompt": "\xff"}', "not UTF-8"), ("x.xml", "<a/>", "JSONL, JSON, CSV or Parquet"),
     ("x.csv", "prompt,response\np\n", "as many cells"), ("x.csv", "prompt,response\np,r,s\n", "as many cells"),
     ("x.csv", 'prompt,response\n"p,r\n', "broken CSV"), ("x.parquet", b"PAR1nonsense", "not a sound Parquet"),
     ("x.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-6], "damaged gzip")],
)  # fmt: skip
def test_what_is_broken_is_named(tmp_path, name, content, said) -> None:
    with pytest.raises(Refusal, match=said) as refusal:
        read(tmp_path, name, content)
    assert refusal.value.code == "bad_input"


def test_bombs_are_refused_before_they_go_off(tmp_path, monkeypatch) -> None:
    bomb = gzip.compress(b'{"prompt": "p", "responses": ["a", "b"]}\n' * 800_000)
    with pytest.raises(Refusal, match="times its size"):
        read(tmp_path, "x.jsonl", bomb)
    with pytest.raises(Refusal, match="nested deeper"):
        read(tmp_path, "x.jsonl", "[" * 1_000_000)
    with pytest.raises(Refusal, match="nested deeper"):
        read(tmp_path, "x.jsonl", '{"prompt": "p", "responses": ' + '{"a":' * 500 + "1" + "}" * 501)
    (fine,) = read(tmp_path, "x.jsonl", jsonl({"prompt": '[{"' * 200, "responses": ["a\\"]}))
    assert fine.responses[0].text == "a\\"
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a" * 1000] * 200_000}), out, use_dictionary=False,
                                compression="zstd")  # fmt: skip
    with pytest.raises(Refusal, match="times its size"):
        read(tmp_path, "x.parquet", out.getvalue())
    monkeypatch.setattr(intake, "MAX_BYTES", 1000)
    with pytest.raises(Refusal, match="unpacks to more"):
        read(tmp_path, "x.jsonl", jsonl({"prompt": "p" * 2000, "responses": ["a"]}))
    monkeypatch.undo()
    monkeypatch.setattr(intake, "MAX_LINE", 1000)
    with pytest.raises(Refusal, match="longer than"):
        read(tmp_path, "x.jsonl", jsonl({"prompt": "p" * 2000, "responses": ["a"]}))
