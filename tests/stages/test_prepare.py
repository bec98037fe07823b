import contextlib
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet as pq
import pytest

from tutelage import settings
from tutelage.corpus import parts, pipeline, python_docs, writing
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document, read
from tutelage.run import Run, Way
from tutelage.stages import prepare

T = TypeVar("T")

ENGLISH = [
    "The wind blew from the sea",
    "A child ran along the wall",
    "Nobody saw the boat come in",
    "Rain fell on tin",
]
CHINESE = ["春天的风从海上吹来", "孩子沿着城墙奔跑", "没有人看见那条船靠岸", "雨点落在铁皮屋顶上"]

WORDS = (
    "今天 明天 孩子 老师 学校 海边 城墙 船上 看见 听到 喜欢 走过 慢慢 大声 轻轻 他们 我们 朋友 父亲 母亲 太阳 月亮 "
    "房子 街道 市场 苹果 书本 故事 时间 早晨 晚上 山上 河边 鸟儿 花园 火车 旅行 回家 开始 结束 的 了 在 和"
).split()


def story(number: int, chinese: bool = False) -> str:
    draw = random.Random(f"{chinese}{number}")
    if chinese:
        words = ["".join(draw.choices(WORDS, k=6)) for _ in range(20)]
        return "。".join([draw.choice(CHINESE), *words]) + "。"
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(60)]
    words[::5] = draw.choices(("the", "of", "and", "that", "with", "to"), k=12)
    return f"{draw.choice(ENGLISH)} {' '.join(words[:20])}. {' '.join(words[20:40])}. {' '.join(words[40:])}."


def prepared(folder: Path, name: str = "prepare", **values: object) -> Path:
    recipe = settings.check(prepare.Recipe, {"processes": 1} | values, "test")
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
    (folder / "near.txt").write_text(story(4).replace(" the ", " a ", 1))
    (folder / "近似.txt").write_text(story(5, chinese=True).replace("。", "。后来，", 1), encoding="utf-8")
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

    rules = {row["source"].rpartition("/")[2]: row["rule"] for row in refused(run)}
    assert rules.pop("short.txt") == "too_short"
    assert rules.pop("gated.jsonl") == "licence"
    # Of a text and its copies the first stays.
    assert rules == {
        "en03.txt": "normalised_duplicate",
        "near.txt": "near_duplicate",
        "近似.txt": "near_duplicate",
    }
    ids = {document.id for document in kept}
    assert all(row["duplicate_of"] in ids for row in refused(run) if row["rule"].endswith("duplicate"))
    assert any("GPL-3.0-only is not allowed" in row["reason"] for row in refused(run))

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


def test_duplicates_can_stay_on_one_side(tmp_path: Path, texts: Path) -> None:
    for seed in range(4):
        run = prepared(
            tmp_path,
            f"{seed}",
            sources=[str(texts)],
            licence="own",
            near_duplicates=False,
            held_out_share=0.4,
            seed=seed,
        )
        sides = {one.source.rpartition("/")[2]: one.split for one in read(run, Document)}
        assert len(sides) == 26
        assert sides["near.txt"] == sides["en04.txt"]
        assert sides["近似.txt"] == sides["zh05.txt"]


def test_parts_of_other_files_are_thrown_away(tmp_path: Path, texts: Path) -> None:
    from tutelage.corpus import reading

    root = tmp_path / "checkpoint"
    reading.forget_others(root, reading.listings([str(texts / "*.txt")], []))
    (root / "judged").mkdir()
    reading.forget_others(root, reading.listings([str(texts / "*.txt")], []))
    assert (root / "judged").exists()
    (texts / "one-more.txt").write_text(story(60))
    reading.forget_others(root, reading.listings([str(texts / "*.txt")], []))
    assert not (root / "judged").exists()


def test_a_licence_can_be_allowed(tmp_path: Path, texts: Path) -> None:
    run = prepared(tmp_path, sources=[str(texts)], licence="own", allow_licences=["GPL-3.0-only"])
    assert "GPL-3.0-only" in {document.licence for document in read(run, Document)}


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
    assert f"Long documents were cut: 1 became {len(kept)} pieces." in (run / "card.html").read_text(encoding="utf-8")


def test_a_record_keeps_its_id_and_a_bad_one_stops_nothing(tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"mine-{number}", "text": story(number), "licence": "MIT"}) for number in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines[:3], '{"text": "broken', '{"words": 1}', *lines[3:]]))
    run = prepared(tmp_path, sources=[str(tmp_path / "rows.jsonl")])
    assert [one.id for one in read(run, Document)] == [f"mine-{number}" for number in range(6)]
    assert [row["rule"] for row in refused(run)] == ["unreadable", "unreadable"]


def test_what_gives_a_test_away_is_refused(tmp_path: Path, texts: Path) -> None:
    question = "How many boats lay in the harbour when the seven lamps of the old lighthouse were lit at dusk?"
    (tmp_path / "test.jsonl").write_text(json.dumps({"id": "q1", "question": question}))
    (texts / "leaky.txt").write_text(f"{story(50)}\n\n{question}\n")
    run = prepared(tmp_path, sources=[str(texts)], licence="own", tests=[str(tmp_path / "test.jsonl")])
    (row,) = [row for row in refused(run) if row["rule"] == "leak"]
    assert row["source"].endswith("leaky.txt")
    assert row["leaks"] == "test.jsonl:q1"
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    assert card["contamination"]["tests"] == [{"test": "test.jsonl", "items": 1, "given_away": 1}]


def test_a_passage_of_many_documents_stays_in_one(tmp_path: Path) -> None:
    advert = "Planning your big day? Call the wedding company of your choice and receive a free photograph of it all!"
    rows = [json.dumps({"id": str(n), "text": f"{story(n)}\n\n{advert}\n\n{story(n + 100)}"}) for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    run = prepared(tmp_path, sources=[str(tmp_path / "rows.jsonl")], licence="own")
    kept = list(read(run, Document))
    assert len(kept) == 30
    assert sum(advert in one.text for one in kept) == 1
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    assert card["passages"]["removed"] == 29
    assert card["passages"]["top"][0]["documents"] == 30


def test_a_long_stretch_stays_in_the_first_document(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"{story(n)}\n\n<b>{story(99)}\n\n{story(n + 50)}"} for n in range(4)]
    # Nothing but what others have: next to nothing is left of it.
    rows.append({"id": "whole", "text": f"{story(0)}\n\n{story(99)}\n\n{story(1)}"})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {"sources": [str(tmp_path / "rows.jsonl")], "licence": "own"}
    run = prepared(tmp_path, shared_stretches=30, **values)
    kept = {one.id: one.text for one in read(run, Document)}
    assert [story(99) in kept[str(n)] for n in range(4)] == [True, False, False, False]
    assert kept["2"].split() == f"{story(2)} {story(52)}".split()
    assert [(row["id"], row["rule"]) for row in refused(run)] == [("whole", "only_repeats")]
    told = json.loads((run / "card.json").read_text(encoding="utf-8"))["stretches"]
    assert (told["units"], told["documents"], told["removed"]) == (30, 4, 5)
    assert told["bytes"] > 4 * len(story(99))
    assert {sample["original"] for sample in told["samples"]} == {"0", "1"}
    assert story(99)[:200] in (run / "card.html").read_text(encoding="utf-8").split("Long stretches")[1]
    off = json.loads((prepared(tmp_path, "off", **values) / "card.json").read_text(encoding="utf-8"))
    assert (off["stretches"]["removed"], off["documents"]) == (0, 5)
    with pytest.raises(SettingsError, match=r"shared_stretches: 5: .* give 20 or more, or 0"):
        prepared(tmp_path, "short", shared_stretches=5, **values)


def test_the_pieces_of_python_documentation_keep_their_heading() -> None:
    body = "\n\n".join(story(number) for number in range(5))
    metadata = {"kind": "function", "name": "a.b", "module": "a"}
    document = Document(
        id="1", text=f"a.b(c)\n\n{body}", source="python:a==1", licence="MIT", language="en", metadata=metadata
    )
    pieces = list(writing.cut([document], 1000))
    assert len(pieces) > 2
    assert all(piece.text.startswith("a.b(c)\n\n") for piece in pieces)
    assert len({piece.id for piece in pieces}) == len(pieces)
    assert pieces[0].id == "1"


def test_settings_that_are_missing(tmp_path: Path, texts: Path) -> None:
    (texts / "gated.jsonl").unlink()
    with pytest.raises(RecordError, match="its licence is unknown: state the licence of your files, or own"):
        prepared(tmp_path, sources=[str(texts)])
    with pytest.raises(SettingsError, match="sources: empty"):
        prepared(tmp_path, sources=[])
    with pytest.raises(SettingsError, match="licence: 'MTI' is no licence of SPDX"):
        prepared(tmp_path, sources=[str(texts)], licence="MTI")
    with pytest.raises(RecordError, match="no such file"):
        prepared(tmp_path, sources=[str(tmp_path / "missing")], licence="own")
    with pytest.raises(RecordError, match="no such file"):
        prepared(tmp_path, sources=[str(texts)], licence="own", tests=[str(tmp_path / "missing.jsonl")])
    assert not (tmp_path / "prepare").exists()


def test_when_everything_is_refused_it_says_by_what(tmp_path: Path, texts: Path) -> None:
    with pytest.raises(RecordError, match=r"nothing is left to train on: refused by licence 29: such as texts/"):
        prepared(tmp_path, sources=[str(texts)], licence="GPL-2.0-only")
    with pytest.raises(RecordError, match=r"refused by licence 1, too_short 28"):
        prepared(tmp_path, sources=[str(texts)], licence="own", min_characters=100_000)
    assert not (tmp_path / "prepare").exists()
    assert not (tmp_path / "prepare.partial").exists()


def test_the_bar_knows_how_far_it_is(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first part to the last, also in a run that goes on; but not how much Python's documentation is."""
    ways: list[Way | int | None] = []

    def progress(_: Run, items: Iterable[T], description: str, total: Way | int | None = None) -> Iterator[T]:
        if description == "reading and judging":
            ways.append(total)
        return iter(items)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "progress", progress)
    monkeypatch.setattr(parts, "FIRST", 2000)
    monkeypatch.setattr(python_docs, "documents", lambda _: ([], []))
    size = sum(file.stat().st_size for file in texts.iterdir())
    checkpoint = tmp_path / "prepare.partial" / "checkpoint"
    number = 0
    for publish, lost in ((stop, ""), (stop, "read.json"), (pipeline.publish, "")):
        (checkpoint / (lost or "nothing")).unlink(missing_ok=True)
        with monkeypatch.context() as within, contextlib.suppress(KeyboardInterrupt):
            within.setattr(pipeline, "publish", publish)
            prepared(tmp_path, sources=[str(texts)], licence="own")
        way = ways.pop()
        assert isinstance(way, Way)
        assert (way.total, way.before) == (size, number)
        number = number or len(list((checkpoint / "judged").iterdir()))
        behind = [way.behind(count + 1) for count in range(number)]
        assert behind == sorted(set(behind))
        assert len(behind) > 3
        assert behind[-1] == size
    prepared(tmp_path, "mixed", sources=["python", str(texts)], licence="own")
    assert ways == [None]


def test_compiling_is_told_when_it_is_done(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kept in (True, False):
        monkeypatch.setattr(pipeline, "is_kept", lambda _, kept=kept: kept)
        run = prepared(tmp_path, f"kept_{kept}", sources=[str(texts)], licence="own")
        assert ("compiles its loops" in (run / "log.txt").read_text()) is not kept
