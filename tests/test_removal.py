"""A removal request: the plan of what to make again, so that nothing has seen a document."""

import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toys

from tutelage import course as courses
from tutelage.cli import main
from tutelage.course import Course
from tutelage.errors import RecordError
from tutelage.removal import plan, shown


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toys.small_course(monkeypatch, tmp_path)


def identity(run: Path, name: str) -> str:
    rows = pq.read_table(run / "documents").to_pylist()
    return {json.loads(row["metadata"])["name"]: row["id"] for row in rows}[name]


def test_a_course_is_made_again_from_the_first_stage_that_saw_it(runs: Path) -> None:
    document = identity(runs / "small/gather", "toy.d1")
    found = plan(document[:8], runs)
    assert found["id"] == document
    paths = [run["path"] for run in found["seen_by"]]
    assert paths[0] == "runs/small/gather"
    assert set(paths) == {f"runs/small/{name}" for name in ("gather", "talk", "base", "sft", "vote")}
    assert paths.index("runs/small/base") < paths.index("runs/small/sft") < paths.index("runs/small/vote")
    assert [step.get("command") for step in found["steps"]] == [
        f"printf '%s\\n' {document} >> runs/removed.txt",
        "tutelage run small.yaml --from gather",
        f"tutelage trace {document} --runs runs",
    ]
    assert "when you have taken the document out of its sources" in found["steps"][1]["do"]


def test_a_stage_that_can_leave_documents_out_is_told_to(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.removal.SETTING", "sources")
    found = plan(identity(runs / "small/gather", "toy.d1"), runs)
    command = found["steps"][1]["command"]
    assert command == "tutelage run small.yaml --from gather --set 'gather.sources=[runs/removed.txt]'"
    assert "taken the document out" not in found["steps"][1]["do"]


def test_a_run_by_itself_is_made_again_from_its_recipe(runs: Path) -> None:
    main(["gather", "--count", "2", "--seed", "9", "--output", "runs/alone", "--quiet"])
    found = plan(identity(runs / "alone", "toy.d1"), runs)
    assert [run["path"] for run in found["seen_by"]] == ["runs/alone"]
    command = found["steps"][1]["command"]
    assert command == "tutelage gather --count 2 --seed 9 --output runs/alone"
    assert main([*shlex.split(command)[1:], "--quiet"]) == 0


def test_copies_and_what_was_set_aside_are_named(runs: Path) -> None:
    document = identity(runs / "small/gather", "toy.d1")
    copies = pa.table(
        {"id": ["copy-1", "copy-2"], "duplicate_of": [document, "another"], "rule": ["exact_duplicate"] * 2}
    )
    pq.write_table(copies, runs / "small/gather/refused/1.parquet")
    courses.run(Course.load(Path("small.yaml"), [("gather.count", "5")]), quiet=True)
    old = next((runs / "small/.previous").glob("gather-*"))
    found = plan(document, runs)
    assert found["copies"] == ["copy-1"]
    assert "copy-1 >> runs/removed.txt" in found["steps"][0]["command"]
    assert str(old) in next(step["command"] for step in found["steps"] if "delete these" in step["do"])
    text = shown(found)
    assert f"document {document}\n  also as copy-1" in text
    assert "nothing is done by this command" in text


def test_the_command_prints_the_plan_and_deletes_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    document = identity(runs / "small/gather", "toy.d1")
    assert main(["trace", document, "--remove"]) == 0
    assert "1. write the ids" in capsys.readouterr().out
    assert main(["trace", document, "--remove", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["what"] == "removal"
    assert sorted(Path().rglob("*")) == before


def test_only_a_document_can_be_removed(runs: Path) -> None:
    with pytest.raises(RecordError, match="a run, not a document"):
        plan("runs/small/sft", runs)
    with pytest.raises(RecordError, match="no path, and no answer"):
        plan("0123456789", runs)
