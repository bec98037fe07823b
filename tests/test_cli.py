"""The command line: quick help, one line for what is wrong, and the exit codes."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import toys

from tutelage import cli
from tutelage.inference.language_model import Sampling
from tutelage.records import Message
from tutelage.run import Run, content_hash

COURSE = "stages:\n  gather:\n  talk: {documents: gather}\n  learn: {conversations: talk}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    toys.install(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(COURSE)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("tutelage: ")
    assert shown.err.count("\n") == 1
    return shown.err.removeprefix("tutelage: ").rstrip("\n")


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    fastest = 99.0
    for _ in range(3):
        began = time.monotonic()
        shown = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "tutelage", "--help"], capture_output=True, text=True, check=True
        )
        fastest = min(fastest, time.monotonic() - began)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "pydantic", "tyro", "peft", "fastapi", "pyarrow", "numpy", "rich"}
    assert fastest < 1.5  # 0.06 s here; other programs may be busy
    assert "tutelage STAGE --flags" in shown.stdout


@pytest.mark.usefixtures("here")
def test_help_names_every_verb_and_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for verb in ("run", "chat", "serve", "status", "trace", "show", "doctor", "version"):
        assert f"\n  {verb} " in shown
    assert "\n  gather             files -> documents, the toy way\n" in shown
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == shown


def test_every_real_stage_says_what_it_is_for() -> None:
    from tutelage import catalogue

    for name in catalogue.names():
        glance = catalogue.glance(name)
        assert "->" in glance.summary, name
        assert glance.makes, name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tutelage 0.")


@pytest.mark.usefixtures("here")
def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "rnu", "x") == "'rnu' is no verb: did you mean 'run'?"
    assert refused(capsys, "gathr") == "'gathr' is no verb: did you mean 'gather'?"


def test_run_does_the_course_and_says_where_the_report_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "small.yaml", "--set", "gather.count=5", "--set", "learn.kind=large"]) == 0
    assert capsys.readouterr().out == "The report is in runs/small/report.html\n"
    assert (here / "runs/small/report.html").exists()
    assert "count: 5\n" in (here / "runs/small/gather/recipe.yaml").read_text()
    assert "kind: large\n" in (here / "runs/small/learn/recipe.yaml").read_text()
    assert cli.main(["run", "small.yaml", "--only", "gather", "--runs", "other", "--quiet"]) == 0
    assert [p.name for p in (here / "other/small").glob("*/done")] == ["done"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "none.yaml"], "none.yaml: no such file: give a course file, such as courses/first.yaml"),
        (["run", "wrong.yaml"], "wrong.yaml:3: talk: unknown key 'docments': did you mean 'documents'?"),
        (["run", "small.yaml", "--set", "x"], "--set x: write stage.key=value"),
        (["run", "small.yaml", "--from", "talc"], "small.yaml: no stage is called 'talc': did you mean 'talk'?"),
        (["run", "small.yaml", "--only", "talk"], "runs/small/gather: not done, and talk is made from it: first"),
        (["status"], "runs: no runs are here"),
        (["trace", "none"], "none: no such path, and too short for an id: give 6 characters at least"),
        (["trace", "none" * 4], "nonenonenonenone: no path, and no answer, record or document under runs"),
        (["show", "none.jsonl"], "none.jsonl: no such file"),
        (["chat", "none"], "none: no such model: give a run that made a model"),
        (["chat", "small.yaml", "--temperature", "-1"], "tutelage chat: temperature: found -1.0: "),
        (["serve", "runs/none"], "runs/none: no such model: give a run that made a model"),
        (
            ["gather", "--output", "out", "--count", "0"],
            "tutelage gather: count: found 0: input should be greater than 0",
        ),
        (["learn", "--output", "out", "--options", "{"], "--options: '{' is not YAML"),
        (["learn", "--output", "out", "--options", "{a: b}"], "tutelage learn: options.a: found 'b': "),
        (["learn", "--output", "small.yaml"], "small.yaml: exists and is not a run"),
        (["learn", "--output", "out", "--documents", "none"], "none: no such file or folder"),
    ],
)
def test_what_is_wrong_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    (here / "wrong.yaml").write_text(COURSE.replace("documents", "docments"))
    before = sorted(p.name for p in here.iterdir())
    assert refused(capsys, *arguments).startswith(expected)
    assert sorted(p.name for p in here.iterdir()) == before


def test_a_stage_by_itself(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["learn", "--output", "out/one", "--learning-rate", "0.5", "--options", "{a: 3}", "--quiet"]
    assert cli.main(given) == 0
    assert capsys.readouterr().out == "The report is in out/one/report.html\n"
    recipe = (here / "out/one/recipe.yaml").read_text()
    assert "learning_rate: 0.5\n" in recipe
    assert "options:\n  a: 3\n" in recipe
    assert "output" not in recipe
    assert cli.main(["talk", "--documents", "none", "--output", "x"]) == 2


@pytest.mark.usefixtures("here")
def test_the_flags_of_a_stage_are_its_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["learn", "--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("--learning-rate FLOAT", "How fast.", "--output", "--model", "To start from.", "--options", "More."):
        assert words in shown
    with pytest.raises(SystemExit) as left:
        cli.main(["learn"])
    assert left.value.code == 2
    assert "--output" in capsys.readouterr().err


def test_a_full_disk_and_a_forbidden_place(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(capsys, "fill", "--output", "out", "--quiet").startswith("out: the disk is full: free some space")
    assert not (here / "out").exists()

    def full(_: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x")

    def forbidden(_: list[str]) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "runs/x")

    monkeypatch.setitem(cli.VERBS, "status", ("", "", full))
    assert refused(capsys, "status").startswith("runs/x: the disk is full")
    monkeypatch.setitem(cli.VERBS, "status", ("", "", forbidden))
    assert refused(capsys, "status") == "runs/x: permission denied: name a place you may write to"


def test_ctrl_c_says_how_to_go_on(here: Path) -> None:
    process = subprocess.Popen(
        toys.command(here, "wait", "--output", "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "waiting" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "tutelage: stopped: give the same command to go on from here"
    assert not (here / "out").exists()
    assert (here / "out.partial").exists()


def test_a_second_process_on_the_same_run_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen(
        toys.command(here, "wait", "--output", "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.readline()
    try:
        line = refused(capsys, "wait", "--output", "out", "--quiet")
        assert line == f"out: process {process.pid} is writing this run: wait for it, or stop it"
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_leaves_is_no_error(here: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        shown = subprocess.run(
            toys.command(here, "--help"), stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    assert (shown.returncode, shown.stderr) == (0, "")


def test_python_m_tutelage() -> None:
    shown = subprocess.run([sys.executable, "-m", "tutelage", "version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("tutelage ")


def test_every_real_stage_has_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """tyro can read every recipe, and every field says what it is."""
    from tutelage import catalogue

    for name in [name for name in catalogue.names() if name != "serve"]:
        with pytest.raises(SystemExit) as left:
            cli.main([name, "--help"])
        assert left.value.code == 0, name
        assert "--output" in capsys.readouterr().out


class Parrot:
    """Says what it was told."""

    name = "parrot"

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        yield f"{prompt[-1].content} at {sampling.temperature:g}"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with Run.begin(tmp_path / "runs/first/ppo", "ppo", {}, [], quiet=True) as run:
        (run.folder / "config.json").write_text("{}")
        run.finish()
    from tutelage.inference.engine import Engine

    monkeypatch.setattr(Engine, "load", lambda _: Parrot())
    monkeypatch.chdir(tmp_path)
    return Path("runs/first/ppo")


def test_chat_talks_and_keeps_its_answers(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nexit\n"))
    assert cli.main(["chat", str(model), "--temperature", "0"]) == 0
    shown = capsys.readouterr().out
    assert "Welcome to the CLI application, use `clear` to remove the history, use `exit` to exit" in shown
    assert "hello at 0" in shown
    (line,) = Path("runs/first/answers.jsonl").read_text().splitlines()
    assert json.loads(line)["model_hash"] == content_hash(model)
    assert cli.main(["trace", json.loads(line)["id"]]) == 0
    assert "runs/first/ppo" in capsys.readouterr().out


def test_serve_hands_over_what_it_was_given(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.stages import serve

    given: list[object] = []
    monkeypatch.setattr(serve, "serve", lambda *arguments: given.extend(arguments))
    assert cli.main(["serve", str(model), "--port", "0"]) == 0
    assert given[:3] == [model, "127.0.0.1", 0]
    assert given[3] == Path("runs/first/answers.jsonl").absolute()
    assert cli.main(["serve", str(model), "--port", "70000"]) == 2
