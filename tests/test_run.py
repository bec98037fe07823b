"""A run is whole or it is not there, whatever killed the process; one process writes it; it knows its parents."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich import progress

from tutelage import run as runs
from tutelage.errors import RunError, RunLockedError
from tutelage.run import Parent, Run, Way, content_hash, file_hash, is_done, read_done, read_metrics, read_parents

# A stage of 40 steps, each with a checkpoint; its output depends on all of them.
WORKER = """
import os, sys, time
from pathlib import Path
from tutelage.run import Run, is_done, write_json
import json

path, pause = Path(sys.argv[1]), float(sys.argv[2])
recipe = {"steps": 40}
if is_done(path, "toy", recipe, []):
    sys.exit(0)
with Run.begin(path, "toy", recipe, [], quiet=True) as run:
    print("begun", flush=True)
    state = {"step": 0, "sum": 1}
    if (run.checkpoint / "state.json").exists():
        state = json.loads((run.checkpoint / "state.json").read_text())
    for step in range(state["step"], 40):
        time.sleep(pause)
        state = {"step": step + 1, "sum": state["sum"] * 31 % 1000003}
        write_json(run.checkpoint / "state.json", state)
    (run.folder / "parts").mkdir(exist_ok=True)
    for part in range(5):
        (run.folder / "parts" / f"{part}.txt").write_text(f"{part} {state['sum']}")
        time.sleep(pause)
    run.finish()
"""


def worker(path: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(path), str(pause)], stdout=subprocess.PIPE, text=True)


def finished(
    path: Path, recipe: dict[str, object] | None = None, text: str = "x", parents: tuple[Parent, ...] = ()
) -> str:
    with Run.begin(path, "toy", recipe or {}, list(parents), quiet=True) as run:
        (run.folder / "out.txt").write_text(text)
        return run.finish()


def test_a_finished_run_names_its_outputs_by_hash(tmp_path: Path) -> None:
    content = finished(tmp_path / "a")
    done = read_done(tmp_path / "a")
    assert done["hash"] == content == content_hash(tmp_path / "a")
    assert done["files"] == {"out.txt": file_hash(tmp_path / "a" / "out.txt")}
    assert not (tmp_path / "a.partial").exists()


def test_the_hash_is_of_the_outputs_alone(tmp_path: Path) -> None:
    with Run.begin(tmp_path / "a", "toy", {"rate": 1}, [], quiet=True) as run:
        run.note("words")
        run.measure(1, loss=0.5)
        (run.folder / "report.html").write_text("<p>")
        (run.folder / "out.txt").write_text("x")
        first = run.finish()
    assert first == finished(tmp_path / "b")
    assert first != finished(tmp_path / "c", text="y")


def test_killed_at_random_moments_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    calm = tmp_path / "calm"
    assert worker(calm).communicate()
    assert (calm / "done").exists()
    path = tmp_path / "killed"
    chance = random.Random(5)
    kills = 0
    for _ in range(60):
        process = worker(path, 0.012)
        try:
            process.communicate(timeout=chance.uniform(0.08, 0.3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        if path.exists():  # without the suffix it is whole
            done = read_done(path)
            assert done["files"] == {name: file_hash(path / name) for name in runs.outputs(path)}
            break
    assert kills >= 2
    assert content_hash(path) == content_hash(calm)
    assert not path.with_name("killed.partial").exists()
    assert not (path / "checkpoint").exists()


def test_a_kill_between_setting_aside_and_renaming_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "a", {"rate": 1}, "old")

    class Killed(BaseException):
        pass

    def rename(self: Path, target: Path) -> Path:
        if self.name == "a.partial":
            raise Killed
        return original(self, target)

    original = Path.rename
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(Killed):
            finished(tmp_path / "a", {"rate": 2}, "new")
    assert not (tmp_path / "a").exists()
    assert not is_done(tmp_path / "a", "toy", {"rate": 2}, [])
    finished(tmp_path / "a", {"rate": 2}, "new")
    assert (tmp_path / "a" / "out.txt").read_text() == "new"
    assert [p.name[:2] for p in (tmp_path / ".previous").iterdir()] == ["a-"]


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    process = worker(tmp_path / "a", 0.05)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    with (
        pytest.raises(RunLockedError, match=f"process {process.pid} is writing this run"),
        Run.begin(tmp_path / "a", "toy", {}, [], quiet=True),
    ):
        pass
    process.communicate()
    assert process.returncode == 0
    assert is_done(tmp_path / "a", "toy", {"steps": 40}, [])


def test_twice_in_one_process_is_refused_too(tmp_path: Path) -> None:
    with Run.begin(tmp_path / "a", "toy", {}, [], quiet=True) as run:
        with pytest.raises(RunLockedError, match="this process"), Run.begin(tmp_path / "a", "toy", {}, [], quiet=True):
            pass
        run.finish()
    finished(tmp_path / "a", {"rate": 2})


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    process = worker(tmp_path / "a", 0.05)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    finished(tmp_path / "a")


def test_a_child_of_a_killed_writer_holds_no_lock(tmp_path: Path) -> None:
    code = """
import multiprocessing, sys, time
from pathlib import Path
from tutelage.run import Run
with Run.begin(Path(sys.argv[1]), "toy", {}, [], quiet=True):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(5,))
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()  # the child holds its other end
    try:
        finished(tmp_path / "a")
    finally:
        subprocess.run(["kill", str(child)], check=False)


def test_other_settings_or_parents_make_it_undone(tmp_path: Path) -> None:
    parent = Parent("model", tmp_path / "m", "a" * 64)
    finished(tmp_path / "a", {"rate": 1.0e-5, "model": str(tmp_path / "m")}, parents=(parent,))
    same = {"rate": 1.0e-5, "model": str(tmp_path / "m")}
    assert is_done(tmp_path / "a", "toy", same, [parent])
    assert not is_done(tmp_path / "a", "toy", {**same, "rate": 2.0e-5}, [parent])
    assert not is_done(tmp_path / "a", "other", same, [parent])
    assert not is_done(tmp_path / "a", "toy", same, [Parent("model", tmp_path / "m", "b" * 64)])
    assert not is_done(tmp_path / "a", "toy", same, [])


def test_a_parent_that_only_moved_is_the_same(tmp_path: Path) -> None:
    recipe = {"model": "old/m", "others": ["old/m", "x"], "word": "old/m"}
    finished(
        tmp_path / "a", recipe, parents=(Parent("model", Path("old/m"), "1"), Parent("others", Path("old/m"), "1"))
    )
    moved = [Parent("model", Path("new/m"), "1"), Parent("others", Path("new/m"), "1")]
    assert is_done(tmp_path / "a", "toy", {"model": "new/m", "others": ["new/m", "x"], "word": "old/m"}, moved)
    assert not is_done(tmp_path / "a", "toy", {"model": "new/m", "others": ["new/m", "y"], "word": "old/m"}, moved)
    assert not is_done(tmp_path / "a", "toy", {"model": "new/m", "others": ["new/m", "x"], "word": "new/m"}, moved)


def test_the_older_run_of_other_settings_is_kept(tmp_path: Path) -> None:
    older = finished(tmp_path / "a", {"rate": 1}, "old")
    finished(tmp_path / "a", {"rate": 2}, "new")
    assert (tmp_path / "a" / "out.txt").read_text() == "new"
    assert (tmp_path / ".previous" / f"a-{older[:8]}" / "out.txt").read_text() == "old"


def test_the_same_outputs_again_are_not_kept_twice(tmp_path: Path) -> None:
    finished(tmp_path / "a", {"rate": 1}, "same")
    finished(tmp_path / "a", {"rate": 2}, "same")
    assert list((tmp_path / ".previous").iterdir()) == []
    assert is_done(tmp_path / "a", "toy", {"rate": 2}, [])


def test_a_damaged_older_run_does_not_lose_the_new_one(tmp_path: Path) -> None:
    finished(tmp_path / "a", {"rate": 1})
    (tmp_path / "a" / "done").write_text("{")
    with pytest.raises(RunError, match=r"done: damaged"):
        content_hash(tmp_path / "a")
    finished(tmp_path / "a", {"rate": 2})
    assert is_done(tmp_path / "a", "toy", {"rate": 2}, [])
    assert (tmp_path / ".previous" / "a-damaged").exists()


def test_a_half_run_of_other_settings_is_swept_away(tmp_path: Path) -> None:
    with Run.begin(tmp_path / "a", "toy", {"rate": 1}, [], quiet=True) as run:
        (run.checkpoint).mkdir()
        (run.checkpoint / "state").write_text("1")
        (run.folder / "half.txt").write_text("half")
    with Run.begin(tmp_path / "a", "toy", {"rate": 1}, [], quiet=True) as run:
        assert (run.checkpoint / "state").exists()  # it goes on
        assert not (run.folder / "half.txt").exists()
    with Run.begin(tmp_path / "a", "toy", {"rate": 2}, [], quiet=True) as run:
        assert not run.checkpoint.exists()


def test_someone_elses_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "novel.txt").write_text("chapter one")
    with pytest.raises(RunError, match="exists and is not a run"):
        finished(tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="exists and is not a run"):
        finished(tmp_path / "file")


def test_parents_are_read_back(tmp_path: Path) -> None:
    parents = (Parent("model", tmp_path / "m", "1"), Parent("data", Path("中文/d.jsonl"), "2"))
    finished(tmp_path / "a", parents=parents)
    assert read_parents(tmp_path / "a") == list(parents)
    with pytest.raises(RunError, match="not a run"):
        read_parents(tmp_path)
    (tmp_path / "a" / "parents.json").write_text("null")
    with pytest.raises(RunError, match="damaged"):
        read_parents(tmp_path / "a")
    assert not is_done(tmp_path / "a", "toy", {}, list(parents))


def test_content_hash_of_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.txt").write_text("1")
    first = content_hash(tmp_path / "f")
    (tmp_path / "f" / "a.txt").rename(tmp_path / "f" / "b.txt")
    assert content_hash(tmp_path / "f") != first  # names count
    assert content_hash(tmp_path / "f" / "b.txt") == file_hash(tmp_path / "f" / "b.txt")
    with pytest.raises(RunError, match="no such file or folder"):
        content_hash(tmp_path / "none")


def test_a_line_of_numbers_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    assert read_metrics(tmp_path / "none") == []


def test_notes_may_hold_any_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Run.begin(tmp_path / "a", "toy", {}, []) as run:
        run.note("shape [3, 4] and [/closing] 中文")
        run.measure(1, loss=1.5, split="held_out")
        assert list(run.progress(range(3), "counting [/x]", note=lambda: "[/y]")) == [0, 1, 2]
    assert "shape [3, 4] and [/closing] 中文" in capsys.readouterr().err
    assert "shape [3, 4] and [/closing] 中文" in (tmp_path / "a.partial" / "log.txt").read_text()
    assert read_metrics(tmp_path / "a.partial") == [{"step": 1, "loss": 1.5, "split": "held_out"}]


def test_a_way_in_bytes_is_told_with_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five items, of which two were done before; the others take ten seconds each."""
    bars: list[progress.Progress] = []

    def add_task(bar: progress.Progress, *given: Any, **named: Any) -> progress.TaskID:
        bars.append(bar)
        return original(bar, *given, **named)

    original = progress.Progress.add_task
    monkeypatch.setattr(progress.Progress, "add_task", add_task)
    ends, now = [4000, 6000, 7000, 8000, 9500], [0]
    way = Way(10_000, lambda count: ends[count - 1], before=2)
    shown: list[tuple[float, float | None]] = []
    with Run.begin(tmp_path / "a", "toy", {}, []) as run:
        for item in run.progress(iter(range(5)), "walking", way):
            bar = bars[0]
            bar.get_time = lambda: now[0]
            if item:
                shown.append((bar.tasks[0].completed, bar.tasks[0].time_remaining))
            now[0] += 10 if item > 1 else 1
    assert shown == [(4000, None), (6000, None), (7000, None), (8000, 20)]
    assert bars[0].tasks[0].completed == 10_000
    assert "walking ━━━━━━━━━━━━━━ 10.0/10.0 kB" in capsys.readouterr().err


def test_recipe_and_parents_are_on_the_disk_before_the_work(tmp_path: Path) -> None:
    with Run.begin(
        tmp_path / "a", "toy", {"text": "中文", "rate": 0.1}, [Parent("x", Path("y"), "z")], quiet=True
    ) as run:
        assert (run.folder / "recipe.yaml").read_text() == "stage: toy\ntext: 中文\nrate: 0.1\n"
        assert json.loads((run.folder / "parents.json").read_text()) == [{"name": "x", "path": "y", "hash": "z"}]
        assert time.monotonic() - run.began < 5


def stopped(path: Path, checkpoint: bool) -> None:
    with Run.begin(path, "toy", {}, [], quiet=True) as run:
        (run.folder / "out.txt").write_text("half")
        run.checkpoint.mkdir()
        (run.checkpoint / ("state" if checkpoint else "state.tmp")).write_text("1")
        raise RunError("the user must mend this")


def test_what_the_user_must_mend_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="mend"):
        stopped(tmp_path / "a", checkpoint=False)
    assert [p.name for p in tmp_path.iterdir()] == [".a.lock"]
    with pytest.raises(RunError, match="mend"):
        stopped(tmp_path / "a", checkpoint=True)
    assert (tmp_path / "a.partial" / "checkpoint").exists()  # this can go on


def test_of_several_processes_only_the_first_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second may write as it likes: nothing of it stays. It looks for states where the first keeps them."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with Run.begin(tmp_path / "a", "toy", {}) as run:
        (run.folder / "out.txt").write_text("x")
        run.note("nobody reads it")
        run.measure(0, loss=1.0)
        assert run.checkpoint == tmp_path / "a.partial" / "checkpoint"
        assert run.finish() == ""
        scratch = run.folder
    assert not scratch.exists()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "0")
    finished(tmp_path / "a")
    assert (tmp_path / "a" / "done").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")  # some schedulers number a process that is alone
    monkeypatch.setenv("RANK", "3")
    finished(tmp_path / "b")
    assert (tmp_path / "b" / "done").exists()


def test_how_much_is_held_at_a_time_leaves_a_run_done(tmp_path: Path) -> None:
    finished(tmp_path / "a", {"seed": 1, "max_batch_tokens": 2048, "save_seconds": 30})
    assert is_done(tmp_path / "a", "toy", {"seed": 1, "max_batch_tokens": 512, "gradient_checkpointing": True}, [])
    assert not is_done(tmp_path / "a", "toy", {"seed": 2, "max_batch_tokens": 2048, "save_seconds": 30}, [])
