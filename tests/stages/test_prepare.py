import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tutelage import settings
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document, read
from tutelage.run import Run
from tutelage.stages import prepare

ENGLISH = [
    "The wind blew from the sea",
    "A child ran along the wall",
    "Nobody saw the boat come in",
    "Rain fell on tin",
]
CHINESE = ["春天的风从海上吹来", "孩子沿着城墙奔跑", "没有人看见那条船靠岸", "雨点落在铁皮屋顶上"]


def story(number: int, chinese: bool = False) -> str:
    draw = random.Random(f"{chinese}{number}")
    if chinese:
        words = ["".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(12)) for _ in range(8)]
        return "。".join([draw.choice(CHINESE), *words]) + "。"
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(60)]
    return f"{draw.choice(ENGLISH)} {' '.join(words)}."


def prepared(folder: Path, name: str = "prepare", **values: object) -> Path:
    recipe = settings.check(prepare.Recipe, values, "test")
    with Run.begin(folder / name, "prepare", settings.plain(recipe), quiet=True) as run:
        prepare.execute(recipe, run)
        run.finish()
    return folder / name


def refused(run: Path) -> list[dict[str, str]]:
    return pq.read_table(run / "refused").to_pylist()


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(12):
        (folder / f"en{number:02d}.txt").write_text(story(number))
        (folder / f"zh{number:02d}.txt").write_text(story(number, chinese=True), encoding="utf-8")
    (folder / "short.txt").write_text("Too short.")
    (folder / "copy.txt").write_text(story(3).upper())
    (folder / "near.txt").write_text(story(4).replace(" the ", " a "))
    (folder / "近似.txt").write_text(story(5, chinese=True).replace("。", ",", 1), encoding="utf-8")
    (folder / "gated.jsonl").write_text(json.dumps({"text": story(99), "licence": "GPL-3.0-only"}))
    return folder


def test_documents_refusals_and_card(tmp_path: Path, texts: Path) -> None:
    run = prepared(tmp_path, sources=[str(texts)], licence="own", held_out_share=0.2)
    kept = list(read(run, Document))
    assert len(kept) == 24
    assert {document.licence for document in kept} == {"own"}
    assert sum(document.language == "zh" for document in kept) == 12
    assert {document.split for document in kept} == {"train", "held_out"}
    assert len({document.id for document in kept}) == 24

    rules = [row["rule"] for row in refused(run)]
    assert rules == ["licence", "too_short", "exact_duplicate", "near_duplicate", "near_duplicate"]
    ids = {document.id for document in kept}
    assert all(row["duplicate_of"] in ids for row in refused(run) if row["rule"].endswith("duplicate"))
    assert "GPL-3.0-only is not allowed" in refused(run)[0]["reason"]

    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    assert card["documents"] == 24
    assert card["funnel"][0]["left"] == 29
    assert card["funnel"][-1]["left"] == 24
    assert "近似" in (run / "card.html").read_text(encoding="utf-8")
    measured = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert measured["documents"] == 24
    assert measured["refused_near_duplicate"] == 2
    assert measured["train"] + measured["held_out"] == 24


def test_the_same_folder_gives_the_same_bytes_elsewhere(tmp_path: Path, texts: Path) -> None:
    moved = tmp_path / "elsewhere" / "texts"
    moved.parent.mkdir()
    first = prepared(tmp_path, "first", sources=[str(texts)], licence="own")
    texts.rename(moved)
    second = prepared(tmp_path, "second", sources=[str(moved)], licence="own")
    hashes = [json.loads((run / "done").read_text())["hash"] for run in (first, second)]
    assert hashes[0] == hashes[1]
    assert str(tmp_path) not in (first / "card.json").read_text(encoding="utf-8")


def test_near_duplicates_can_stay(tmp_path: Path, texts: Path) -> None:
    run = prepared(tmp_path, sources=[str(texts)], licence="own", near_duplicates=False)
    assert len(list(read(run, Document))) == 26
    assert {row["rule"] for row in refused(run)} == {"licence", "too_short", "exact_duplicate"}


def test_a_licence_can_be_allowed(tmp_path: Path, texts: Path) -> None:
    run = prepared(tmp_path, sources=[str(texts)], licence="own", allow_licences=["GPL-3.0-only"])
    assert "GPL-3.0-only" in {document.licence for document in read(run, Document)}


@pytest.mark.parametrize("seed", range(6))
def test_a_copy_of_a_held_out_text_is_not_trained_on(tmp_path: Path, seed: int) -> None:
    """Each text twice, in two files that may fall on two sides: whenever they do, the held-out one stays."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        (folder / f"a{number:02d}.txt").write_text(story(number))
        (folder / f"b{number:02d}.txt").write_text(f"Again: {story(number)}" if number % 2 else story(number).upper())
    run = prepared(tmp_path, sources=[str(folder)], licence="own", held_out_share=0.4, seed=seed)
    alone = prepared(
        tmp_path, "all", sources=[str(folder)], licence="own", held_out_share=0.4, seed=seed, near_duplicates=False
    )
    sides: dict[str, set[str]] = {}
    for document in read(alone, Document):
        sides.setdefault(document.source[-6:], set()).add(document.split)
    kept = list(read(run, Document))
    assert len(kept) == 20
    for document in kept:
        if sides[document.source[-6:]] | sides.get(twin(document.source), set()) >= {"held_out", "train"}:
            assert document.split == "held_out"


def twin(source: str) -> str:
    name = source[-6:]
    return ("b" if name[0] == "a" else "a") + name[1:]


def test_long_documents_are_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    book = "\n\n".join(story(number) for number in range(20))
    (tmp_path / "book.txt").write_text(book)
    run = prepared(
        tmp_path, sources=[str(tmp_path / "book.txt")], licence="own", max_characters=2000, held_out_share=0.2
    )
    kept = list(read(run, Document))
    assert all(len(document.text) <= 2000 for document in kept)
    assert [document.metadata["part"] for document in kept] == [f"{n}/{len(kept)}" for n in range(1, len(kept) + 1)]
    assert "\n\n".join(document.text for document in kept) == book
    # One file is one group: then its pieces are parted.
    assert {document.split for document in kept} == {"train", "held_out"}


def test_the_pieces_of_python_documentation_keep_their_heading() -> None:
    body = "\n\n".join(story(number) for number in range(5))
    metadata = {"kind": "function", "name": "a.b", "module": "a"}
    document = Document(
        id="1", text=f"a.b(c)\n\n{body}", source="python:a==1", licence="MIT", language="en", metadata=metadata
    )
    pieces = list(prepare._pieces(document, 1000))
    assert len(pieces) > 2
    assert all(piece.text.startswith("a.b(c)\n\n") for piece in pieces)
    assert len({piece.id for piece in pieces}) == len(pieces)


def test_settings_that_are_missing(tmp_path: Path, texts: Path) -> None:
    with pytest.raises(SettingsError, match="licence: missing: state the licence of the files"):
        prepared(tmp_path, sources=[str(texts)])
    with pytest.raises(SettingsError, match="sources: empty"):
        prepared(tmp_path, sources=[])
    with pytest.raises(RecordError, match="no such file or folder"):
        prepared(tmp_path, sources=[str(tmp_path / "missing")], licence="own")
    assert not (tmp_path / "prepare").exists()


def test_when_everything_is_refused_it_says_by_what(tmp_path: Path, texts: Path) -> None:
    with pytest.raises(RecordError, match=r"nothing is left to train on: refused by licence 29: first texts/copy.txt"):
        prepared(tmp_path, sources=[str(texts)], licence="LicenseRef-Secret")
    with pytest.raises(RecordError, match=r"refused by too_short 28, licence 1"):
        prepared(tmp_path, sources=[str(texts)], licence="own", min_characters=100_000)
    assert not (tmp_path / "prepare").exists()
