from pathlib import Path

from tutelage.corpus.card import card, page
from tutelage.corpus.python_docs import Package
from tutelage.corpus.tables import Refusal, write_documents, write_refusals
from tutelage.records import Document, read
from tutelage.run import file_hash


def document(text: str, **values: str) -> Document:
    known = {"id": text[:4], "source": "file.txt", "licence": "MIT", "language": "en"} | values
    return Document(text=text, **known)  # pyright: ignore[reportArgumentType]


KEPT = [document("good text", source="b"), document("中文", language="zh", split="held_out", licence="own")]
REFUSED = [
    Refusal(document("<script>alert(1)</script>"), "too_short", "3 characters"),
    Refusal(document("good text again"), "near_duplicate", "repeats file.txt", "good"),
]


def test_the_funnel_adds_up() -> None:
    found = card(KEPT, REFUSED, [], {".png": 2}, {"seed": 1})
    assert found["documents"] == 2
    assert found["bytes"] == 9 + 6
    assert found["funnel"] == [
        {"rule": "read", "documents": 0, "bytes": 0, "left": 4, "bytes_left": 55},
        {"rule": "too_short", "documents": 1, "bytes": 25, "left": 3, "bytes_left": 30},
        {"rule": "near_duplicate", "documents": 1, "bytes": 15, "left": 2, "bytes_left": 15},
    ]
    assert found["languages"] == [
        {"name": "en", "documents": 1, "bytes": 9},
        {"name": "zh", "documents": 1, "bytes": 6},
    ]
    assert [row["name"] for row in found["sources"]] == ["b", "file.txt"]


def test_the_page_shows_text_and_never_runs_it() -> None:
    shown = page(card(KEPT, REFUSED, [Package("p<b>", "1", "MIT", "License")], {}, {"sources": ["<i>"]}))
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "p&lt;b&gt; 1" in shown
    assert "<i>" not in shown
    assert shown.count("<table") == shown.count("</table>") == 8


def test_tables_are_read_back_and_have_the_same_bytes(tmp_path: Path) -> None:
    metadata = {"name": "json.dumps", "kind": "function", "anything": "值"}
    documents = [Document(id="1", text="t", source="s", licence="MIT", language="en", metadata=metadata), *KEPT]
    for name in ("one", "two"):
        write_documents(tmp_path / name / "documents", documents)
        write_refusals(tmp_path / name / "refused", REFUSED)
    assert list(read(tmp_path / "one", Document)) == documents
    for file in ("documents/00000.parquet", "refused/00000.parquet"):
        assert file_hash(tmp_path / "one" / file) == file_hash(tmp_path / "two" / file)


def test_no_refusal_is_a_table_too(tmp_path: Path) -> None:
    write_refusals(tmp_path / "refused", [])
    assert (tmp_path / "refused" / "00000.parquet").exists()
