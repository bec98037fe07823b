"""What is found in a corpus with known defects, against its truth."""

import gzip
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tutelage.corpus import duplicates, leakage, paragraphs, testsets
from tutelage.corpus.hashing import pa

CORPUS = Path(__file__).parents[3] / "shared/data/corpus"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="needs ../shared/data"),
]


def lines(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


@cache
def documents() -> dict[str, str]:
    """All texts of the corpus that are not pages, by id."""
    found = {row["id"]: row["text"] for row in lines(CORPUS / "docs.jsonl.gz")}
    found |= {row["id"]: row["text"] for row in pq.read_table(CORPUS / "docs.parquet").to_pylist()}
    for path in sorted(CORPUS.glob("files/*")):
        if path.suffix in (".txt", ".md"):
            found[path.stem] = path.read_text(encoding="utf-8")
    return found


@cache
def column() -> Any:
    return pa.array(list(documents().values()), pa.large_string())


def truth(kind: str) -> list[dict[str, Any]]:
    names = documents()
    rows = lines(CORPUS / "truth/truth.jsonl.gz")
    some = (row for row in rows if row["kind"].startswith(kind))
    return [row for row in some if row["id"] in names and row.get("of", row["id"]) in names]


@cache
def groups() -> duplicates.Groups:
    return duplicates.group([duplicates.sign(column())])


def kept_for() -> dict[str, str]:
    names = list(documents())
    return {name: names[to] for name, to in zip(names, groups().stands_for.tolist(), strict=True)}


@pytest.mark.parametrize("kind", ["dup_exact", "dup_normalised"])
def test_every_exact_and_normalised_copy_is_found(kind: str) -> None:
    label = kept_for()
    rows = truth(kind)
    assert len(rows) >= 50
    assert [row for row in rows if label[row["id"]] != label[row["of"]]] == []


def test_near_duplicates_are_found_and_little_else() -> None:
    label = kept_for()
    junk = {row["id"] for row in (*truth("lowq_"), *truth("harm_"))}
    alike: dict[str, dict[str, float]] = defaultdict(dict)
    for one, other, share in lines(CORPUS / "truth/near_dup_pairs.jsonl.gz"):
        if one in label and other in label and not {one, other} & junk:
            alike[one][other] = alike[other][one] = share
    pairs = [(one, other) for one, near in alike.items() for other, share in near.items() if share >= 0.8]
    assert len(pairs) > 1000
    assert sum(label[one] == label[other] for one, other in pairs) / len(pairs) >= 0.99
    members: dict[str, list[str]] = defaultdict(list)
    for name in label.keys() - junk:
        members[label[name]].append(name)
    together = [(one, other) for some in members.values() for one in some for other in some if one < other]
    right = sum(alike[one].get(other, 0) >= 0.7 for one, other in together)
    assert right / len(together) >= 0.97
    gone = [name for name, to in label.items() if name != to and name not in junk]
    assert sum(max(alike[name].values(), default=0) >= 0.7 for name in gone) / len(gone) >= 0.97


def letters(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).lower() if letter.isalpha())


def test_repeated_paragraphs_go_and_pictures_stay() -> None:
    names = list(documents())
    found = paragraphs.repeated([paragraphs.passages(column())], [len(names)])
    index = paragraphs.Index(found, paragraphs.wordings(column(), 0, found))
    left = dict(zip(names, paragraphs.strip(column(), 0, index).texts.to_pylist(), strict=True))
    rows = truth("boiler_")
    assert len(rows) > 2000
    still = 0
    for row in rows:
        said, text = letters(row["span"]), letters(left[row["id"]])
        pieces = [said[place : place + 12] for place in range(0, len(said) - 12, 12)]
        still += sum(piece in text for piece in pieces) >= len(pieces) / 2
    assert still / len(rows) <= 0.02
    shown = [row for row in truth("emoji_keep") if row["span"] in documents()[row["id"]]]
    assert sum(row["span"] in left[row["id"]] for row in shown) / len(shown) >= 0.99
    # A page without any of it is hardly touched.
    clean = set(names) - {row["id"] for row in (*rows, *truth("dup_"))}
    before, after = (sum(len(texts[name]) for name in clean) for texts in (documents(), left))
    assert after / before >= 0.98


def test_leaks_are_found_and_nothing_else() -> None:
    index = leakage.Index(testsets.read([str(CORPUS / "testset.jsonl")]))
    names = list(documents())
    found = leakage.find(column(), 0, index)
    pairs = {(names[leak.document], leak.item.id) for leak in found}
    hit, asked = Counter[bool](), Counter[bool]()
    rows = truth("leak_")
    for row in rows:
        verbatim = row["kind"] == "leak_verbatim"
        asked[verbatim] += 1
        hit[verbatim] += (row["id"], row["tid"]) in pairs
    assert hit[True] == asked[True] > 50
    assert hit[False] / asked[False] >= 0.98
    known = {(row["id"], row["tid"]) for row in rows}
    # What else is found are natural copies: nearly all of the item stands there.
    others = [leak for leak in found if (names[leak.document], leak.item.id) not in known]
    assert sum(leak.coverage < 0.9 for leak in others) / len(found) <= 0.02
