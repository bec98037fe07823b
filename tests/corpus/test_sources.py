import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.corpus import sources
from tutelage.errors import RecordError
from tutelage.records import Document


def read(source: Path, licence: str = "own") -> list[Document]:
    return [
        document
        for path, name in sources.listing(str(source)).read
        for document in sources.documents(path, name, licence)
    ]


def test_every_kind_of_file_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("\ufeffplain text", encoding="utf-8")
    (folder / "b.md").write_text("# heading")
    (folder / "deep" / "c.html").write_text("<p>a &amp; b</p><script>no</script>")
    (folder / "d.jsonl").write_text('{"text": "first", "licence": "MIT"}\n\n{"content": "second"}\n"third"\n')
    (folder / "e.csv").write_text('id,text\n1,"in, quotes"\n2,中文行\n', encoding="utf-8")
    pq.write_table(pa.table({"text": ["from parquet"], "source": ["elsewhere"]}), folder / "f.parquet")
    (folder / "g.txt.gz").write_bytes(gzip.compress(b"packed"))
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "README").write_text("no extension")

    found = read(folder)
    assert [(document.source, document.text) for document in found] == [
        ("texts/a.txt", "plain text"),
        ("texts/b.md", "# heading"),
        ("texts/d.jsonl", "first"),
        ("texts/d.jsonl", "second"),
        ("texts/d.jsonl", "third"),
        ("texts/deep/c.html", "a & b"),
        ("texts/e.csv", "in, quotes"),
        ("texts/e.csv", "中文行"),
        ("elsewhere", "from parquet"),
        ("texts/g.txt.gz", "packed"),
    ]
    assert [document.licence for document in found[2:4]] == ["MIT", "own"]
    assert found[7].language == "zh"
    assert found[3].metadata == {"file": "texts/d.jsonl", "row": "2"}
    assert sources.listing(str(folder)).unread == {".png": 1, "without": 1}


def test_documents_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "texts").mkdir(parents=True)
        (tmp_path / place / "texts" / "a.txt").write_text("the same")
    here, there = (tmp_path / place / "texts" for place in ("here", "there"))
    assert read(here) == read(there)
    assert sources.fingerprint(str(here)) == sources.fingerprint(str(there))
    (there / "a.txt").write_text("another")
    assert sources.fingerprint(str(here)) != sources.fingerprint(str(there))


def test_metadata_of_a_row_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "Give it.", "metadata": {"kind": "function", "file": "old"}}))
    assert read(path)[0].metadata == {"kind": "function", "file": "a.jsonl", "row": "1"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt: empty"),
        ("a.pdf", b"%PDF", "a.pdf: cannot read .pdf: give one of .txt"),
        ("README", b"text", "README: cannot read a file without extension"),
        ("a.txt", b"\xff\xfe", "a.txt: not UTF-8 at byte 0"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "a.jsonl:2: broken JSON"),
        ("a.jsonl", b'{"title": "a", "page": 2}\n', "a.jsonl:1: no field 'text': found title, page"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: text: found int"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: list: write an object"),
        ("a.jsonl", b"\n\n", "a.jsonl: empty"),
        ("a.csv", b"title\nx\n", "a.csv:2: no field 'text': found title"),
        ("a.csv", b"text\n", "a.csv: empty"),
        ("a.parquet", b"PAR", "a.parquet: not a Parquet file"),
        ("a.txt.gz", b"plain", "a.txt.gz: named .gz but not whole gzip data"),
        ("a.txt.gz", gzip.compress(b"much text" * 50)[:-20], "a.txt.gz: named .gz but not whole gzip data"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there_and_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file or folder: give a path, or 'python'"):
        read(tmp_path / "missing")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(RecordError, match="1 files, none that can be read"):
        read(tmp_path)
