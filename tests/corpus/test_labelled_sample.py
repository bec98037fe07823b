"""Licences, cleaning and masking on a real corpus with defects that are known."""

import gzip
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tutelage.corpus import files, sources, terms
from tutelage.corpus.licences import Gate
from tutelage.corpus.treatment import treat
from tutelage.records import Document

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "corpus"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not SAMPLE.exists(), reason="the shared data are not beside the project"),
]


@cache
def truth() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with gzip.open(SAMPLE / "truth" / "truth.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            defect = json.loads(line)
            found[defect["kind"]].append(defect)
    return found


@cache
def documents() -> dict[str, Document]:
    read = (
        sources.document(entry)
        for name in ("docs.jsonl.gz", "docs.parquet", "pages.warc.gz", "files")
        for path, known in files.listing(str(SAMPLE / name)).read
        for entry in sources.entries(path, known)
        if isinstance(entry, sources.Entry)
    )
    return {one.id: one for one in read if isinstance(one, Document)}


@cache
def treated() -> dict[str, str]:
    found = documents()
    return dict(zip(found, (one.text for one in treat([one.text for one in found.values()])), strict=True))


def spans(*kinds: str) -> list[tuple[str, str]]:
    """(document, what was put in) of those that are still there when the text is read."""
    return [
        (one["id"], one["span"])
        for kind in kinds
        for one in truth()[kind]
        if one["id"] in documents() and one["span"] in documents()[one["id"]].text
    ]


def test_every_document_that_may_not_be_used_is_refused() -> None:
    blocked = [one["id"] for one in truth()["licence_blocked"]]
    assert len(blocked) > 100
    assert [name for name in blocked if not terms.refused(documents()[name], terms.Card(), Gate())] == []


def test_leftovers_of_markup_go_and_emoji_stay() -> None:
    leftovers = spans("html_remnant")
    gone = [treated()[name].count(span) < documents()[name].text.count(span) for name, span in leftovers]
    assert len(gone) > 100
    assert sum(gone) >= 0.99 * len(gone)
    emoji = spans("emoji_keep")
    assert len(emoji) > 100
    assert all(span in treated()[name] for name, span in emoji)


def test_personal_data_is_masked() -> None:
    pieces = spans("pii_key", "pii_email", "pii_phone_cn", "pii_ip")
    assert len(pieces) > 100
    assert [span for name, span in pieces if span in treated()[name]] == []
