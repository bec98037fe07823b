import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.corpus import files, sources, terms
from tutelage.corpus.sources import Entry, Fault
from tutelage.errors import RecordError
from tutelage.records import Document


def read(source: Path | str, licence: str = "own") -> list[Document]:
    """The documents of a source; the first that cannot be read is raised."""
    documents: list[Document] = []
    for path, name in files.listing(str(source)).read:
        for entry in sources.entries(path, name):
            made = entry if isinstance(entry, Fault) else sources.document(entry, terms.Card(licence=licence))
            if isinstance(made, Fault):
                raise RecordError(str(made))
            documents.append(made)
    return documents


def found(path: Path) -> list[str]:
    """The texts, and the faults with their places."""
    return [
        str(one).replace(f"{path.parent}/", "") if isinstance(one, Fault) else one.content
        for one in sources.entries(path, path.name)
    ]


def entry(path: Path) -> Entry:
    (one,) = sources.entries(path, path.name)
    assert isinstance(one, Entry)
    return one


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

    documents = read(folder)
    assert [(document.source, document.text) for document in documents] == [
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
    assert [document.licence for document in documents[2:4]] == ["MIT", "own"]
    assert [document.id for document in documents[6:8]] == ["1", "2"]
    assert documents[3].metadata == {"file": "texts/d.jsonl", "row": "2", "evidence": "card"}
    assert files.listing(str(folder)).unread == {".png": 1, "without": 1}


def test_patterns(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.md", "d.png"):
        (tmp_path / name).write_text(name)
    assert [document.text for document in read(tmp_path / "*.txt")] == ["a.txt", "b.txt"]
    assert [name for _, name in files.listing(str(tmp_path / "**" / "*")).read] == ["a.txt", "b.txt", "c.md"]
    assert files.listing(str(tmp_path / "*")).unread == {".png": 1}
    with pytest.raises(RecordError, match=r"\*.zip: no file is called so"):
        files.listing(str(tmp_path / "*.zip"))
    with pytest.raises(RecordError, match="1 file, none that can be read"):
        files.listing(str(tmp_path / "*.png"))


def test_documents_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "texts").mkdir(parents=True)
        (tmp_path / place / "texts" / "a.txt").write_text("the same")
    here, there = (tmp_path / place / "texts" for place in ("here", "there"))
    assert read(here) == read(there)


def test_what_a_row_knows_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = {
        "id": 7,
        "text": "Give it.",
        "url": "http://example.org",
        "title": "T",
        "metadata": {"kind": "f", "file": "old"},
    }
    path.write_text(json.dumps(row))
    document = read(path)[0]
    assert document.id == "7"
    assert document.metadata == {
        "kind": "f", "file": "a.jsonl", "row": "1", "title": "T", "url": "http://example.org", "evidence": "card",
    }  # fmt: skip
    path.write_text(json.dumps({"html": "<p>Page.</p>", "license": ["mit"], "lang": "xx"}))
    assert (read(path)[0].text, read(path)[0].licence, read(path)[0].language) == ("Page.", "MIT", "xx")


def test_an_index_beside_tells_of_files_and_pages(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a text")
    (folder / "index.jsonl").write_text('{"id": "x1", "file": "texts/a.txt", "licence": "", "source": "books"}\n')
    assert [name for _, name in files.listing(str(folder)).read] == ["texts/a.txt"]
    document = read(folder)[0]
    assert (document.id, document.source, document.licence) == ("x1", "books", "unknown")
    (folder / "index.jsonl").write_text('{"id": "x1", "file": "a.txt", "licence": "MIT"}\n')
    assert read(folder)[0].licence == "MIT"


def test_licence_of_record_card_file_and_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004")

    def licence(card: terms.Card | None = None, text: str = "text", stated: str = "") -> tuple[str, str]:
        (tmp_path / "a.md").write_text(text)
        one = entry(tmp_path / "a.md")
        one = Entry(one.content, one.form, source="s", licence=stated, metadata=one.metadata)
        document = sources.document(one, card)
        assert isinstance(document, Document)
        return document.licence, document.metadata["evidence"]

    assert licence() == ("Apache-2.0", "LICENSE")
    assert licence(terms.Card(licence="cc by 4.0", evidence="its page")) == ("CC-BY-4.0", "its page")
    assert licence(terms.Card(licence="MIT"), stated="ISC") == ("ISC", "record")
    assert licence(terms.Card(licence="MIT"), stated="unknown") == ("unknown", "record")
    tagged = "# SPDX-License-Identifier: GPL-3.0-only\ntext"
    assert licence(terms.Card(licence="MIT"), tagged) == ("MIT AND GPL-3.0-only", "card and text")
    assert licence(None, tagged, "unknown")[0] == "unknown"


def test_a_page_that_is_not_to_be_used_is_marked(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<meta name=robots content=noai><p lang="en">Some words of a page.</p>')
    assert read(tmp_path / "a.html")[0].metadata["reservation"] == "noai"


def test_books_and_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as book:
        book.writestr("META-INF/container.xml", '<c><rootfile full-path="p.opf"/></c>')
        package = '<p xmlns="x"><m><item id="a" href="a.xhtml"/></m><s><itemref idref="a"/></s></p>'
        book.writestr("p.opf", package)
        book.writestr("a.xhtml", "<h1>One</h1><p>Short.</p><p class='sidebar'>all of it</p>")
    assert read(tmp_path / "a.epub")[0].text == "# One\n\nShort.\n\nall of it"
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>Some words of a page.</p>"
    head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://e.org/1\r\nContent-Length: %d\r\n" % len(http)
    head += b"Content-Type: application/http; msgtype=response\r\n\r\n"
    (tmp_path / "b.warc").write_bytes((head + http + b"\r\n\r\n") * 2)
    (tmp_path / "b.index.jsonl").write_text('{"id": "p1", "url": "http://e.org/1", "licence": "CC0-1.0"}\n')
    one = read(tmp_path / "b.warc")[0]
    assert (one.id, one.text, one.licence, one.metadata["url"]) == (
        "p1",
        "Some words of a page.",
        "CC0-1.0",
        "http://e.org/1",
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n{"text": "c"}\n', ["a", "a.jsonl:2: broken JSON at column 10: ", "c"]),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n"c"', ["a", "a.jsonl:2: not UTF-8 at byte 10: convert it", "c"]),
        ("a.jsonl", '{"text": "中"}\n'.encode("utf-16"), ["中"]),
        ("a.jsonl", b'{"text": "\\ud83d"}\n{"x": NaN, "text": "b"}', ["?", "b"]),
        ("a.jsonl", b'{"title": "a", "page": 2}\n', ["a.jsonl:1: no field 'text': found title, page"]),
        ("a.jsonl", b'{"text": 3}\n[1]\n', ["a.jsonl:1: text: found int", "a.jsonl:2: list: write an object"]),
        ("a.jsonl", b'{"text": null, "html": null}\n', ["a.jsonl:1: text: found nothing: it should be text"]),
        (
            "a.jsonl.gz",
            gzip.compress(b'"a"\n"b"\n' + bytes(range(35, 91)) * 9, mtime=0)[:-9],
            ["a", "b", "a.jsonl.gz: gzip data that is"],
        ),
        ("a.csv", b"title\nx\n", ["a.csv:2: no field 'text': found title"]),
        ("a.csv", b'text\n"a\nb"\n', ["a\nb"]),
        ("a.tsv", "text\tid\n短文\t1\n".encode("gbk"), ["短文"]),
        ("a.parquet", b"PAR", ["a.parquet: not a Parquet file"]),
        ("a.txt.gz", b"plain", ["a.txt.gz: gzip data that is damaged"]),
        ("a.txt", b"", ["a.txt: empty: it should hold text"]),
        ("a.epub", b"PK", ["a.epub: not an EPUB book"]),
        ("a.warc", b"nothing", ["a.warc: no record in it"]),
    ],
)
def test_one_bad_record_stops_nothing(tmp_path: Path, name: str, content: bytes, expected: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    texts = found(path)
    assert len(texts) == len(expected), texts
    assert all(text.startswith(start) for text, start in zip(texts, expected, strict=True)), texts
    assert all("\n" not in text for text in texts if text.startswith(name))


def test_a_parquet_without_text_names_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["a", "b"], "page": [1, 2]}), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet") == ["a.parquet: row 1: no field 'text': found title, page"]


def test_what_is_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(b'"a"\n"' + b"x" * (3 << 20) + b'"\n"c"\n')
    assert found(tmp_path / "a.jsonl") == ["a", "a.jsonl:2: a line of more than 1 MiB: cut it into records", "c"]
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(bytes(8 << 20)))
    assert found(tmp_path / "b.txt.gz") == ["b.txt.gz: unpacks to more than 1 MiB: cut it into smaller files"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt: empty"),
        ("a.pdf", b"%PDF", "a.pdf: cannot read .pdf: give one of .txt"),
        ("README", b"text", "README: cannot read a file without extension"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "a.jsonl:2: broken JSON"),
        ("a.jsonl", b"\n\n", "a.jsonl: no record in it"),
        ("a.csv", b"text\n", "a.csv: no record in it"),
        ("a.html", b"<nav>menu</nav>", "a.html: no text in it"),
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
    with pytest.raises(RecordError, match="1 file, none that can be read"):
        read(tmp_path)
