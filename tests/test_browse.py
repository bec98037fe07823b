from collections.abc import Sequence
from pathlib import Path

import pytest

from tutelage.browse import Wanted
from tutelage.corpus import tables
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document
from tutelage.show import show


def document(id: str, source: str, language: str = "en") -> Document:
    return Document(id=id, text=f"text of {id}", source=source, licence="MIT", language=language)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    kept = [document("a", "books"), document("b", "pages", "zh")]
    refused = [
        tables.Refusal(document("c", "books"), "near_duplicate", "90% like a", "a"),
        tables.Refusal(document("d", "pages", "zh"), "leak", "gives away 100% of t:q1", leaks="t:q1"),
        tables.Refusal(document("e", "pages"), "too_short", "3 characters"),
    ]
    tables.write(tmp_path / "run" / "documents" / "00000.parquet", tables.document_table(kept))
    tables.write(tmp_path / "run" / "documents" / "00001.parquet", tables.document_table([]))
    tables.write(tmp_path / "run" / "refused" / "00000.parquet", tables.refusal_table(refused))
    return tmp_path / "run"


def shown(run: Path, limit: int = 9, **wanted: str) -> str:
    parts: Sequence[object] = list(show(run, limit=limit, wanted=Wanted(**wanted)))
    return "\n".join(str(part) for part in parts)


def test_without_a_wish_what_is_kept_is_shown_and_what_is_not_is_counted(run: Path) -> None:
    told = shown(run)
    assert "2 kept" in told
    assert "near_duplicate 1" in told
    assert "text of a" in told
    assert "text of c" not in told


def test_by_rule_source_and_language(run: Path) -> None:
    told = shown(run, rule="near_duplicate")
    assert "text of c" in told
    assert "90% like a" in told
    assert "stands for it: a" in told
    assert "text of a" not in told
    assert "gives away: t:q1" in shown(run, rule="leak")
    told = shown(run, source="page")
    assert [f"text of {id}" in told for id in "abcde"] == [False, True, False, True, True]
    told = shown(run, language="zh")
    assert [f"text of {id}" in told for id in "abcde"] == [False, True, False, True, False]
    told = shown(run, rule="kept", language="zh")
    assert [f"text of {id}" in told for id in "abcde"] == [False, True, False, False, False]
    assert "text of e" not in shown(run, limit=1, source="pages")


def test_a_wish_that_nothing_suits_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"refused nothing in .*: did you mean 'near_duplicate'"):
        shown(run, rule="nearduplicate")
    with pytest.raises(RecordError, match="no document of source 'films'"):
        shown(run, source="films")
    (tmp_path / "c.jsonl").write_text('{"text": "t", "source": "s"}')
    with pytest.raises(SettingsError, match="no run of prepare"):
        list(show(tmp_path / "c.jsonl", wanted=Wanted(rule="leak")))
