"""From anything back to the documents, and from a document to everything that saw it."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import toys
from rich.console import Console

from tutelage import course as courses
from tutelage import records
from tutelage.ancestry import Archive
from tutelage.cli import main
from tutelage.course import Course
from tutelage.errors import RecordError
from tutelage.family import tree
from tutelage.lineage import trace
from tutelage.run import content_hash
from tutelage.show import show
from tutelage.status import course_rows, status


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toys.small_course(monkeypatch, tmp_path)


def document_ids(runs: Path) -> dict[str, str]:
    rows = pyarrow.parquet.read_table(runs / "small/gather/documents").to_pylist()
    return {json.loads(row["metadata"])["name"]: row["id"] for row in rows}


def drawn(found: dict[str, object]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tree(found))
    console.file.close()
    return console.export_text()


def test_a_model_leads_back_to_documents_and_licences(runs: Path) -> None:
    found = trace("runs/small/sft", runs)
    node = found["ancestry"]
    assert (node["stage"], node["hash"]) == ("learn", content_hash(runs / "small/sft"))
    assert [(p["as"], p["stage"], p["state"]) for p in node["parents"]] == [
        ("conversations", "talk", "same"), ("model", "learn", "same"),
    ]  # fmt: skip
    talk, base = node["parents"]
    assert talk["records"] == {"conversations.jsonl": 3, "held_out.jsonl": 1}
    gathered = talk["parents"][0]
    assert gathered["documents"] == {"held_out": 1, "train": 3}
    assert gathered["licences"] == {"CC0-1.0": 4}
    assert gathered["largest_sources"] == [{"source": "toy", "licence": "CC0-1.0", "documents": 4}]
    assert gathered["refused"] == 1
    assert base["parents"][0]["again"]
    assert [(d["path"], d["as"]) for d in found["made_from_it"]] == [("runs/small/vote", "models")]
    shown = drawn(found)
    assert "learn runs/small/sft" in shown
    assert "licences: CC0-1.0 4" in shown
    assert "documents: 1 held out, 3 train; refused: 1" in shown


def test_descendants_are_found_at_any_distance(runs: Path) -> None:
    archive = Archive(runs)
    gather = next(run for run in archive.runs if run.path.name == "gather")
    found = {Path(d["path"]).name: d.get("through", "") for d in archive.descendants(gather)}
    assert found == {"talk": "", "base": "", "sft": "runs/small/base", "vote": "runs/small/sft"}


def test_a_parent_that_changed_moved_or_went_is_told(runs: Path) -> None:
    older = content_hash(runs / "small/gather")
    courses.run(Course.load(Path("small.yaml"), [("gather.count", 5)]), only="gather", quiet=True)
    state = trace("runs/small/talk", runs)["ancestry"]["parents"][0]
    assert (state["state"], state["hash"]) == ("set aside", older)
    assert ".previous/gather-" in state["path"]
    assert state["documents"] == {"held_out": 1, "train": 3}
    (runs / "small/.previous").rename("gone")
    state = trace("runs/small/talk", runs)["ancestry"]["parents"][0]
    assert state["state"] == "changed since"
    (runs / "small/gather").rename("gathered")
    assert trace("runs/small/talk", runs)["ancestry"]["parents"][0]["state"] == "not here"
    Path("gathered").rename(runs / "gathered")
    runs.rename("elsewhere")
    node = trace("elsewhere/small/sft", Path("elsewhere"))["ancestry"]
    assert [p["state"] for p in node["parents"]] == ["moved", "moved"]
    assert "changed since" not in drawn(trace("elsewhere/small/sft", Path("elsewhere")))


def test_a_document_leads_to_records_and_everything_that_saw_it(runs: Path) -> None:
    ids = document_ids(runs)
    found = trace(ids["toy.d2"][:8], runs)
    assert found["what"] == "document"
    (place,) = found["stands_in"]
    assert (place["state"], place["run"], place["licence"], place["name"]) == (
        "kept",
        "runs/small/gather",
        "CC0-1.0",
        "toy.d2",
    )
    assert {Path(r["path"]).name: r["how"] for r in place["seen_by"]} == dict.fromkeys(
        ["talk", "base", "sft", "vote"], "made from"
    )
    assert [(r["kind"], r["file"]) for r in found["records_made_from_it"]] == [
        ("conversation", "runs/small/talk/conversations.jsonl")
    ]
    assert "1 record made from it" in drawn(found)
    held_out = trace(ids["toy.d0"], runs)
    assert {r["how"] for r in held_out["stands_in"][0]["seen_by"]} == {"measured on"}
    assert held_out["records_made_from_it"][0]["file"].endswith("held_out.jsonl")


def test_a_refused_document_says_why(runs: Path) -> None:
    found = trace(records.identify("refused", 1), runs)
    (place,) = found["stands_in"]
    assert (place["state"], place["rule"], place["reason"]) == ("refused", "short", "2 characters")
    assert "seen_by" not in place
    assert "refused: short: 2 characters" in drawn(found)


def test_a_record_leads_to_its_documents_and_readers(runs: Path) -> None:
    ids = document_ids(runs)
    found = trace(records.identify("talk", ids["toy.d3"]), runs)
    assert (found["what"], found["kind"]) == ("record", "conversation")
    assert [(d["id"], d["name"], d["licence"]) for d in found["documents"]] == [(ids["toy.d3"], "toy.d3", "CC0-1.0")]
    (place,) = found["stands_in"]
    assert {Path(r["path"]).name for r in place["seen_by"]} == {"sft", "vote"}
    assert "What does toy.d3 say?" in drawn(found)
    row = {"model": "sft", "prompt": found["id"], "response": "d3, of course"}
    (runs / "small/vote/answers.jsonl").write_text(json.dumps(row) + "\n")
    found = trace(found["id"], runs)
    assert [(a["model"], a["response"]) for a in found["answers"]] == [("sft", "d3, of course")]
    assert "d3, of course" in drawn(found)
    vote = trace(records.identify("vote"), runs)
    assert (vote["kind"], vote["documents"]) == ("comparison", [])
    assert "response, rank 2 bad" in drawn(vote)


def test_an_answer_leads_to_its_model_and_the_records_most_like_it(runs: Path) -> None:
    answer = {
        "id": "chatcmpl-0123456789abcdef01234567", "time": "2026-01-01T00:00:00Z", "model": "runs/small/sft",
        "model_hash": content_hash(runs / "small/sft"), "prompt": [{"role": "user", "content": "What does d2 say?"}],
        "response": "document 2 of 1", "finish_reason": "stop",
    }  # fmt: skip
    (runs / "small/answers.jsonl").write_text(json.dumps(answer) + "\n" + '{"id": "chatcmpl-0123')
    found = trace("012345", runs)
    assert found["id"] == answer["id"]
    assert found["ancestry"]["path"] == "runs/small/sft"
    assert found["learned_from"] == {"runs/small/talk/conversations.jsonl": 3}
    nearest = found["nearest_by_shared_words"]
    assert nearest[0]["id"] == records.identify("talk", document_ids(runs)["toy.d2"])
    assert nearest[0]["share"] > nearest[1]["share"] > 0
    assert [d["name"] for d in nearest[0]["documents"]] == ["toy.d2"]
    assert nearest[0]["words"][0] in ("2", "d2")
    shown = drawn(found)
    assert "nearest by shared words" in shown
    assert "what a model learned from which record is not known" in shown
    gone = {**answer, "id": "chatcmpl-ffffffffffffffffffffffff", "model_hash": "0" * 64}
    (runs / "small/answers.jsonl").write_text(json.dumps(gone) + "\n")
    assert trace("chatcmpl-ffffff", runs)["ancestry"]["state"] == "not here"


def test_ids_may_be_short_but_not_ambiguous(runs: Path) -> None:
    with pytest.raises(RecordError, match="too short for an id: give 6 characters"):
        trace("abcde", runs)
    with pytest.raises(RecordError, match="no path, and no answer, record or document"):
        trace("zzzzzzzz", runs)
    lines = [{"id": f"abcdef{n}", "messages": []} for n in range(2)]
    (runs / "small/talk/more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RecordError, match="abcdef: stands for 2 ids: abcdef0, abcdef1: give more of it"):
        trace("abcdef", runs)


def test_the_command_line_prints_trees_and_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "runs/small/sft", "--runs", str(runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ancestry"]["path"] == "runs/small/sft"
    assert main(["trace", "runs/small/sft"]) == 0
    assert "runs/small/gather" in capsys.readouterr().out
    assert main(["status"]) == 0
    assert "gather" in capsys.readouterr().out


def test_status_knows_done_stale_half_and_missing(runs: Path) -> None:
    _, problem, rows = course_rows(runs / "small")
    assert (problem, {row.name: row.state for row in rows}) == (
        "", dict.fromkeys(["gather", "talk", "base", "sft", "vote"], "done"),
    )  # fmt: skip
    assert rows[3].hash == content_hash(runs / "small/sft")
    assert rows[3].metric == "loss 1"
    changed = (
        toys.COURSE.replace("0.01", "0.02")
        + "  more: {stage: learn, model: sft}\n  last: {stage: learn, model: more}\n"
    )
    Path("small.yaml").write_text(changed)
    half = runs / "small/more.partial"
    half.mkdir()
    (half / "recipe.yaml").write_text("stage: learn\n")
    (half / "metrics.jsonl").write_text('{"step": 7, "loss": 1.0}\n{"st')
    _, problem, rows = course_rows(runs / "small")
    states = {row.name: row.state for row in rows}
    assert (states["base"], states["sft"], states["vote"]) == ("done", "stale", "done")
    assert (states["more"], states["last"]) == ("partial", "missing")
    assert rows[5].note.startswith("step 7")
    Path("small.yaml").write_text("stages:\n  gahter:\n")
    title, problem, rows = course_rows(runs / "small")
    assert problem.startswith("small.yaml:2: unknown stage 'gahter'")
    assert len(rows) == 6
    assert "small.yaml" in title


def test_status_shows_runs_of_no_course(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "small").rename("alone")
    (Path("alone") / "course.json").unlink()
    Console().print(status(Path("alone")))
    shown = capsys.readouterr().out
    assert "alone: by themselves" in shown
    assert "sft (learn)" in shown


def test_show_without_a_tokenizer_shows_text(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [str(part) for part in show(runs / "small/talk", limit=1)]
    assert any("no tokenizer beside it" in part for part in parts)
    assert any("user: What does toy.d1 say?" in part for part in parts)
    assert any("assistant: document 1 of 1" in part for part in parts)
    assert any("bad" in str(part) for part in show(runs / "small/vote"))
    assert any("document 1 of 1" in str(part) for part in show(runs / "small/gather"))
    with pytest.raises(RecordError, match="holds no records"):
        list(show(runs / "small/sft"))
    assert main(["show", "runs/small/talk", "--limit", "0"]) == 2
    assert "--limit 0: show at least 1" in capsys.readouterr().err
