import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tutelage.corpus import judging, licences, paragraphs, parts, quality, settling, splits, terms

ADVERT = "Planning your big day? Call the wedding company of your choice and receive a free photograph of it all!"
KNOWN = "the of and to in that is was for it with as his on be at by had not are but from or have an they".split()


def rules(root: Path, **changed: object) -> judging.Rules:
    settings = {
        "root": str(root), "cards": (terms.Card(licence="own"),), "gate": licences.Gate(licences.OPEN),
        "leave_out": (), "extraction": "fast", "mask_personal": True, "quality": quality.Settings(),
        "quality_classifier": "", "lexicons": (), "harm_classifier": "", "tests": (), "near_duplicates": True,
        "paragraphs": True, "stretches": 0, "max_characters": 0, "share": 0.1, "seed": 1,
    }  # fmt: skip
    return judging.Rules(**(settings | changed))  # pyright: ignore[reportArgumentType]


def rows() -> list[parts.Row]:
    """Texts with exact copies, others in capitals, near ones, an advertisement, and copies of what may not be."""
    draw = random.Random(4)
    words = ["".join(draw.choices("abcdeilmnorstu", k=draw.randint(2, 8))) for _ in range(800)]
    found: list[parts.Row] = []
    for number in range(240):
        text = " ".join(draw.choice(KNOWN if draw.random() < 0.4 else words) for _ in range(90)) + "."
        text += f"\n\n{ADVERT}" if number % 3 == 0 else ""
        licence = "GPL-3.0-only" if number % 13 == 0 else "MIT"
        found.append(parts.Row(text, "text", f"a{number}", f"s{number}", licence))
        if number % 7 == 0:
            found.append(parts.Row(text, "text", f"b{number}", "copies", "MIT"))
            found.append(parts.Row(text.upper(), "text", f"c{number}", "copies", "MIT"))
            found.append(parts.Row(text.replace(" the ", " a ", 1), "text", f"d{number}", "copies", "MIT"))
    return found


def judged(root: Path, monkeypatch: pytest.MonkeyPatch, rows: Sequence[parts.Row], **changed: object) -> judging.Rules:
    monkeypatch.setattr(parts, "FIRST", 12_000)
    made = rules(root, **changed)
    for number in parts.cut(made.bench, rows, {}):
        judging.judge(made, number)
    return made


def settle(made: judging.Rules) -> None:
    for job in (*settling.FIRST, *settling.THEN):
        job(made)


def written(made: judging.Rules) -> dict[str, str]:
    return {file.name: hashlib.sha1(file.read_bytes()).hexdigest() for file in made.bench.settled().iterdir()}


def test_jobs_go_on_wherever_they_were_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = judged(tmp_path, monkeypatch, rows())
    assert len(made.bench.numbers()) > 5
    settle(made)
    whole = written(made)
    assert {"sizes.json", "compared.npz", "letters.npz", "passages.npz", "clusters.json", "facts.json"} < set(whole)
    assert not (tmp_path / "signs").exists()
    draw = random.Random(6)
    order = ("sizes.json", "compared.npz", "passages.00000.npz", "letters.npz", "00000.arrow", "00003.arrow",
             "facts.json", "clusters.json", "passages.npz")  # fmt: skip
    for first in range(len(order)):
        for lost in order[first:]:
            file = made.bench.settled() / lost
            file.unlink()
            if draw.random() < 0.5:
                file.with_name(f"half.{lost}").write_bytes(b"half of it")
        (tmp_path / "signs").mkdir(exist_ok=True)
        (tmp_path / "signs" / "bands.npy").write_bytes(b"half of it")
        # What a job writes last is not written again.
        stays = {
            file: file.stat().st_mtime_ns for file in made.bench.settled().glob("*.npz") if file.name[:4] != "half"
        }
        settle(made)
        again = written(made)
        assert {name: state for name, state in again.items() if not name.startswith("half.")} == whole
        assert {file: file.stat().st_mtime_ns for file in stays} == stays


def test_verdicts_say_what_goes_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = judged(tmp_path, monkeypatch, rows())
    settle(made)
    tables = [parts.read_table(made.bench.settled() / f"{number:05d}.arrow") for number in made.bench.numbers()]
    documents = [parts.read_table(made.bench.judged(number) / "documents.arrow") for number in made.bench.numbers()]
    ids = [id for table in documents for id in table.column("id").to_pylist()]
    said = dict(zip(ids, (row for table in tables for row in table.to_pylist()), strict=True))
    assert said["b7"]["rule"] == "exact_duplicate"
    assert said["b7"]["reason"] == "the same as a7 (s7)"
    assert said["b7"]["duplicate_of"] == "a7"
    assert said["c7"]["rule"] == "normalised_duplicate"
    assert said["d7"]["rule"] == "near_duplicate"
    assert said["d7"]["reason"].endswith("% like a7 (s7)")
    assert said["b91"]["rule"] == said["c91"]["rule"] == "licence_copy"
    assert said["b91"]["duplicate_of"] == ""
    assert said["a7"] == said["a8"] | {"held_out": said["a7"]["held_out"]}
    assert said["a8"]["rule"] == said["a8"]["reason"] == said["a8"]["duplicate_of"] == ""
    held = {row["held_out"] for row in said.values()}
    assert held == {0, 1}
    assert all(row["held_out"] == said[row["duplicate_of"]]["held_out"] for row in said.values() if row["duplicate_of"])


@pytest.mark.parametrize("at_once", [1 << 24, 700, 90])
def test_passages_are_those_of_all_keys_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(settling, "AT_ONCE", at_once)
    made = judged(tmp_path, monkeypatch, rows())
    settle(made)
    sizes = [len(np.load(made.bench.judged(number) / "groups.npy")) for number in made.bench.numbers()]
    alive = np.concatenate(
        [
            np.array([rule == "" for rule in parts.read_table(file).column("rule").to_pylist()])
            for file in sorted(made.bench.settled().glob("*.arrow"))
        ]
    )
    every = [settling.passages(made.bench.judged(number)) for number in made.bench.numbers()]
    assert len(list(made.bench.settled().glob("passages.*.npz"))) == -(
        -sum(len(one.keys) + 16 for one in every) // at_once
    )
    wanted = paragraphs.repeated(every, sizes, alive=alive)
    assert len(wanted.keys)
    for one, other in zip(settling.repeated(made.bench), wanted, strict=True):
        assert (one == other).all()


def test_nothing_that_was_judged_is_settled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, some in (("none", []), ("refused", [parts.Row("!", "text", "a", "s", "MIT")])):
        made = judged(tmp_path / name, monkeypatch, some)
        (tmp_path / name / "judged").mkdir(exist_ok=True)
        settle(made)
        assert settling.clusters(made.bench) == []
        assert not len(settling.repeated(made.bench).keys)


def test_documents_are_held_out_by_the_smallest_and_the_largest_number() -> None:
    values = np.array([7 << 50, 9 << 50, 7 << 50, 1 << 63], np.uint64)
    alone = np.array([1 << 50, 2 << 50, 3 << 50, 4 << 50], np.uint64)
    places = np.arange(4)
    assert splits.held_out(values, alone, places, 1e-9).tolist() == [True, False, True, False]
    assert splits.held_out(values, alone, places, 1.0).tolist() == [True, True, True, False]
    assert splits.held_out(values[:1].repeat(4), alone, places, 1e-9).tolist() == [True, False, False, False]
    assert not splits.held_out(values[:1], alone[:1], places[:1], 0.5).any()
