import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tutelage import settings
from tutelage.corpus import plots
from tutelage.corpus.card import page
from tutelage.records import Document, read
from tutelage.run import Run, file_hash
from tutelage.stages import prepare

PROSE = (
    "The wind blew from the sea and nobody saw the boat come in. Rain fell on the tin of the old roof, "
    "and number {n} of the children ran along the wall to look for what had been left there by the tide of {n}."
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with markup in a name, a copy, a short text, an address to mask, and a test that is given away."""
    folder = tmp_path_factory.mktemp("card")
    draw = random.Random(3)
    words = ["".join(draw.choices("abcdefghilmnoprstu", k=draw.randint(2, 9))) for _ in range(400)]
    rows: list[dict[str, Any]] = []
    for number in range(12):
        tail = " ".join(draw.sample(words, 60))
        rows.append({"id": f"d{number}", "text": f"{PROSE.format(n=number * 7919)} {tail}.", "source": "<i>tales</i>"})
    rows[1]["text"] += " Write to somebody@mail.example.org about it."
    rows.append({**rows[3], "id": "copy"})
    rows.append({"id": "short", "text": "<script>alert(1)</script>Too short."})
    question = "How many boats lay in the harbour when the seven lamps of the old lighthouse were lit at dusk?"
    rows.append({"id": "leak", "text": f"{' '.join(draw.sample(words, 60))}. {question} {PROSE}"})
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"licence": "MIT"} | row) for row in rows))
    (folder / "test.jsonl").write_text(json.dumps({"id": "q<1>", "question": question}))
    values = {"sources": [str(folder / "rows.jsonl")], "tests": [str(folder / "test.jsonl")], "processes": 1}
    recipe = settings.check(prepare.Recipe, values, "test")
    with Run.begin(folder / "run", "prepare", settings.plain(recipe), quiet=True) as at_work:
        prepare.execute(recipe, at_work)
        at_work.finish()
    return folder / "run"


@pytest.fixture(scope="module")
def card(run: Path) -> dict[str, Any]:
    return json.loads((run / "card.json").read_text(encoding="utf-8"))


def test_the_funnel_adds_up(card: dict[str, Any], run: Path) -> None:
    first, *steps = card["funnel"]
    assert first["left"] == 15
    assert [step["rule"] for step in steps] == ["too_short", "leak", "exact_duplicate"]
    left, size = first["left"], first["bytes_left"]
    for step in steps:
        left, size = left - step["documents"], size - step["bytes"]
        assert (step["left"], step["bytes_left"]) == (left, size)
    assert left == card["documents"] == len(list(read(run, Document)))
    assert sum(row["documents"] for row in card["languages"]) == card["documents"]
    assert sum(row["documents"] for row in card["splits"]) == card["documents"]
    assert sum(sum(row["documents"]) for row in card["lengths"]["languages"]) == card["documents"]
    assert len(card["lengths"]["edges"]) == len(card["lengths"]["languages"][0]["documents"]) + 1


def test_what_was_found_is_told(card: dict[str, Any]) -> None:
    assert {rule["rule"]: rule["samples"][0]["id"] for rule in card["refused"]} == {
        "too_short": "short", "leak": "leak", "exact_duplicate": "copy",
    }  # fmt: skip
    (cluster,) = card["duplicates"]["clusters"]
    assert (cluster["documents"], cluster["kept"]["id"], cluster["members"][0]["id"]) == (2, "d3", "copy")
    assert card["duplicates"]["sizes"] == [{"documents": 2, "clusters": 1}]
    assert card["contamination"]["tests"] == [{"test": "test.jsonl", "items": 1, "given_away": 1}]
    assert [row["kind"] for row in card["personal"]] == ["EMAIL"]
    assert card["sources"][0]["name"] == "<i>tales</i>"


def test_nothing_of_time_or_place_is_in_it(run: Path, card: dict[str, Any]) -> None:
    for name in ("card.json", "card.html"):
        assert str(run.parent) not in (run / name).read_text(encoding="utf-8")
    assert not {"engine", "processes", "address"} & card["settings"].keys()
    assert "s of work" in (run / "log.txt").read_text(encoding="utf-8")


def test_the_page_shows_text_and_never_runs_it(card: dict[str, Any]) -> None:
    shown = page(card)
    assert "<script" not in shown
    assert "<i>tales" not in shown
    assert "&lt;i&gt;tales" in shown
    assert "q&lt;1&gt;" in shown
    assert "http" not in shown.split("</style>")[1]
    for tag in ("table", "details", "svg", "pre"):
        assert shown.count(f"<{tag}") == shown.count(f"</{tag}>") > 0


def test_one_of_a_thing_is_told_as_one(card: dict[str, Any]) -> None:
    counts = {"different": 1, "removed": 1, "removed_edited": 0, "documents": 1, "bytes": 9}
    passages = counts | {"top": [{"documents": 3, "text": "a"}]}
    changed = {"documents": 1, "more_sources": 1, "passages": passages}
    shown = " ".join(re.sub("<[^>]+>", " ", page(card | changed)).split())
    for told in (
        "1 document to learn from", "from 1 licence in 1 language.", "1 duplicate in 1 cluster", "1 test item found",
        "1 repeated passage cut from 1 document", "And 1 smaller one.", "1 passage stood", "1 copy went",
    ):  # fmt: skip
        assert told in shown


def test_the_same_again_has_the_same_bytes(run: Path, card: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(card), encoding="utf-8")
    assert file_hash(tmp_path / "page.html") == file_hash(run / "card.html")


def test_the_river_gives_what_a_step_takes_its_share() -> None:
    drawn = plots.river(100, [("licence", 40), ("nothing", 0), ("copies", 10)])
    assert drawn.count('class="gone"') == 2
    assert ">100<" in drawn
    assert ">50<" in drawn
    # 40 of 100 of a depth of 170.
    assert "V110.0" in drawn
    assert plots.river(0, []) == ""


def test_numbers_are_short() -> None:
    assert [plots.short(number) for number in (7, 512, 16384, 2e6)] == ["7", "512", "16.4 k", "2 M"]
