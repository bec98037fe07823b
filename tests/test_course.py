"""A course is checked whole before anything runs, does only what is not done, and goes on after a kill."""

import json
import random
import subprocess
from pathlib import Path

import pytest
import toys

from tutelage import course as courses
from tutelage.course import Course
from tutelage.errors import RunError, SettingsError, TutelageError
from tutelage.run import content_hash, is_done, read_done, read_parents

GOOD = """\
# An education.
seed: 7
stages:
  gather: {count: 4}
  talk: {documents: gather}
  base: {stage: learn, documents: gather}
  sft:
    stage: learn
    model: base
    conversations: talk
    learning_rate: 1e-3
  vote: {models: [base, sft]}
  prefer: {model: sft, comparisons: vote}
"""


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.install(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "small.yaml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def problem(text: str) -> str:
    with pytest.raises(TutelageError) as found:
        Course.load(written(text))
    assert "\n" not in str(found.value)
    assert sorted(p.name for p in Path().iterdir()) == ["small.yaml", "toy_stages"]
    return str(found.value)


def test_names_become_paths_and_the_seed_is_everyones() -> None:
    course = Course.load(written(GOOD))
    recipe = course.recipe(course.lesson("sft"), Path("runs/small"))
    assert (recipe.model, recipe.conversations) == (Path("runs/small/base"), Path("runs/small/talk"))
    assert (recipe.seed, recipe.learning_rate) == (7, 1e-3)
    assert course.recipe(course.lesson("vote"), Path("r")).models == (Path("r/base"), Path("r/sft"))
    assert course.makers("documents", course.lesson("prefer")) == ["gather"]
    assert course.makers("model", course.lesson("sft")) == ["base"]


def test_what_is_set_over_it_counts_more() -> None:
    course = Course.load(written(GOOD), [("sft.learning_rate", "2.5e-4"), ("gather.seed", "3"), ("seed", "9")])
    folder = Path("runs/small")
    assert course.recipe(course.lesson("sft"), folder).learning_rate == 2.5e-4
    assert course.recipe(course.lesson("gather"), folder).seed == 3
    assert course.recipe(course.lesson("base"), folder).seed == 9


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (("sftt.learning_rate", "1"), "--set sftt.learning_rate: write stage.key=value: did you mean 'sft'?"),
        (
            ("sft.learning_rat", "1"),
            "--set sft.learning_rat: sft: unknown key 'learning_rat': did you mean 'learning_rate'?",
        ),
        (("sft.learning_rate", "-1"), "--set sft.learning_rate: sft: learning_rate: found -1: "),
        (("learning_rate", "1"), "--set learning_rate: write stage.key=value"),
    ],
)
def test_a_wrong_setting_on_the_command_line(override: tuple[str, str], expected: str) -> None:
    with pytest.raises(SettingsError) as found:
        Course.load(written(GOOD), [override])
    assert str(found.value).startswith(expected)


WRONG = [
    # unknown keys and stages, with the nearest right one
    ("stages:\n  gather: {cuont: 3}\n", "small.yaml:2: gather: unknown key 'cuont': did you mean 'count'?"),
    ("sead: 3\nstages:\n  gather:\n", "small.yaml:1: unknown key 'sead': did you mean 'seed'?"),
    ("stages:\n  gahter:\n", "small.yaml:2: unknown stage 'gahter': did you mean 'gather'?; "),
    ("stages:\n  mine:\n    stage: lern\n", "small.yaml:3: unknown stage 'lern': did you mean 'learn'?"),
    ("stages:\n  gather:\n  offer:\n", "small.yaml:3: offer teaches nothing: after the course, `tutelage offer RUN`"),
    # values
    (
        "stages:\n  gather:\n    seed: 3\n    count: 0\n",
        "small.yaml:4: gather: count: found 0: input should be greater",
    ),
    (
        "stages:\n  gather: {count: many}\n",
        "small.yaml:2: gather: count: found 'many': input should be a valid integer",
    ),
    ("stages:\n  learn: {kind: huge}\n", "small.yaml:2: learn: kind: found 'huge': input should be 'small' or 'large'"),
    ("stages:\n  learn: {learning_rate: .nan}\n", "small.yaml:2: learn: learning_rate: found nan: "),
    ("stages:\n  learn: {notes: none.txt}\n", "small.yaml:2: learn: notes: none.txt: no such file or folder"),
    ("seed: x\nstages:\n  gather:\n", "small.yaml:1: seed: found 'x': write a whole number"),
    # inputs
    (
        "stages:\n  gather:\n  learn:\n  prefer: {model: learn, comparisons: gather}\n",
        "small.yaml:4: prefer: comparisons: gather makes documents, not comparisons: needs comparisons, and no earlier "
        "stage makes it: add a stage before it (vote), or give a path",
    ),
    (
        "stages:\n  gather:\n  learn:\n  vote: {models: learn}\n  prefer:\n    model: learn\n    comparisons: gather\n",
        "small.yaml:7: prefer: comparisons: gather makes documents, not comparisons: "
        "stages before it that make comparisons: vote",
    ),
    (
        "stages:\n  learn:\n  prefer: {model: learn}\n",
        "small.yaml:3: prefer: comparisons: needs comparisons, and no earlier stage makes it: add a stage before it (v",
    ),
    (
        "stages:\n  learn:\n  vote: {models: [learn]}\n  prefer: {model: learn}\n",
        "small.yaml:4: prefer: comparisons: stages before it that make comparisons: vote",
    ),
    (
        "stages:\n  prefer: {model: learn, comparisons: vote}\n  learn:\n  vote: {models: [learn]}\n",
        "small.yaml:2: prefer: model: learn is a later stage: needs model, and no earlier stage makes it: ",
    ),
    ("stages:\n  learn: {model: learn}\n", "small.yaml:2: learn: model: learn is this very stage: "),
    (
        "stages:\n  gather:\n  talk: {documents: gathr}\n",
        "small.yaml:3: talk: documents: no stage before it and no file is called 'gathr': did you mean 'gather'?",
    ),
    ("stages:\n  learn: {model: no/such/model}\n", "small.yaml:2: learn: model: no stage before it and no file"),
    ("stages:\n  learn: {model: toy_stages/model}\n", "small.yaml:2: learn: model: no stage before it and no file"),
    (
        "stages:\n  gather: {sources: [words, no/file.txt]}\n",
        "small.yaml:2: gather: sources: no/file.txt: no such file",
    ),
    ("stages:\n  talk: {documents: 3}\n", "small.yaml:2: talk: documents: found 3: "),
    # shape
    ("", "small.yaml: empty: write `stages:`"),
    ("# only words\n", "small.yaml: empty"),
    ("seed: 1\n", "small.yaml: no `stages:`"),
    ("stages:\n", "small.yaml:1: stages: empty"),
    ("- gather\n", "small.yaml:1: a course: write settings as `key: value`"),
    ("stages:\n  - gather\n", "small.yaml:2: stages: write settings as `key: value`"),
    ("stages:\n  gather: 3\n", "small.yaml:2: gather: write settings as `key: value`"),
    ("stages:\n  gather:\n  learn:\n  gather:\n", "small.yaml:4: 'gather' stands twice, also on line 2"),
    ("stages:\n  gather:\n    count: 3\n    count: 4\n", "small.yaml:4: 'count' stands twice, also on line 3"),
    ("stages:\n  a/b: {stage: gather}\n", "small.yaml:2: 'a/b' cannot name a folder"),
    ("stages:\n  ..: {stage: gather}\n", "small.yaml:2: '..' cannot name a folder"),
    ("stages:\n  x.partial: {stage: gather}\n", "small.yaml:2: 'x.partial' cannot name a folder"),
    ("stages:\n  gather: {count: 3\n", "small.yaml:3: not YAML: "),
    ("stages:\n\tgather:\n", "small.yaml:2: not YAML: "),
    ("a: \x00\n", "small.yaml: not YAML: "),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_a_wrong_course_says_where_and_what(text: str, expected: str) -> None:
    assert problem(text).startswith(expected)


def test_a_missing_course_file_and_a_wrong_one() -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: no such file: give a course file"):
        Course.load(Path("none.yaml"))
    with pytest.raises(SettingsError, match="is a folder"):
        Course.load(Path("toy_stages"))
    Path("x.yaml").write_bytes(b"stages: \xff")
    with pytest.raises(SettingsError, match="not UTF-8 at byte 8"):
        Course.load(Path("x.yaml"))


def test_an_empty_file_as_input() -> None:
    Path("votes.jsonl").write_text("")
    with pytest.raises(SettingsError, match=r"small\.yaml:3: prefer: comparisons: votes\.jsonl: empty file"):
        Course.load(written("stages:\n  learn:\n  prefer: {model: learn, comparisons: votes.jsonl}\n"))


def test_a_model_may_come_from_the_hub_and_a_stage_name_counts_before_a_folder() -> None:
    Path("learn").mkdir()
    course = Course.load(written("stages:\n  learn: {model: Qwen/Qwen3-0.6B}\n  more: {stage: learn, model: learn}\n"))
    assert course.recipe(course.lesson("learn"), Path("r")).model == Path("Qwen/Qwen3-0.6B")
    assert course.recipe(course.lesson("more"), Path("r")).model == Path("r/learn")
    parents = courses.parents_of(course.recipe(course.lesson("learn"), Path("r")))
    assert [(p.name, str(p.path), len(p.hash)) for p in parents] == [("model", "Qwen/Qwen3-0.6B", 64)]


def test_yaml_anchors_work() -> None:
    text = (
        "stages:\n  learn: &base {learning_rate: 0.5, seed: 2}\n  more:\n    <<: *base\n    stage: learn\n    seed: 3\n"
    )
    course = Course.load(written(text))
    recipe = course.recipe(course.lesson("more"), Path("r"))
    assert (recipe.learning_rate, recipe.seed) == (0.5, 3)


def times(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("*/done")}


def test_it_runs_and_a_second_time_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    course = Course.load(written(GOOD))
    folder = courses.run(course)
    said = capsys.readouterr().err
    assert "stage 1 of 6: gather: files -> documents, the toy way" in said
    assert folder == Path("runs/small")
    names = ["gather", "talk", "base", "sft", "vote", "prefer"]
    assert all((folder / name / "done").exists() for name in names)
    assert all((folder / name / "report.html").exists() for name in names)
    assert list(json.loads((folder / "report.json").read_text())["stages"]) == names
    assert (folder / "report.html").exists()
    parents = read_parents(folder / "sft")
    assert [(p.name, p.path) for p in parents] == [("conversations", folder / "talk"), ("model", folder / "base")]
    assert [p.hash for p in parents] == [content_hash(folder / "talk"), content_hash(folder / "base")]
    before = times(folder)
    courses.run(course)
    assert times(folder) == before
    assert capsys.readouterr().err.count("done already") == 6


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    courses.run(Course.load(written(GOOD)), quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_changed_setting_redoes_what_depends_on_it_and_keeps_the_old() -> None:
    folder = courses.run(Course.load(written(GOOD)), quiet=True)
    before, older = times(folder), content_hash(folder / "sft")
    courses.run(Course.load(written(GOOD.replace("1e-3", "2e-3"))), quiet=True)
    after = times(folder)
    assert {name for name in before if before[name] != after[name]} == {"sft", "vote", "prefer"}
    assert content_hash(folder / ".previous" / f"sft-{older[:8]}") == older


def test_a_setting_that_changes_no_output_stops_there() -> None:
    text = GOOD.replace("{count: 4}", "{count: 4, sources: [words]}")
    folder = courses.run(Course.load(written(text)), quiet=True)
    before = times(folder)
    courses.run(Course.load(written(text.replace("[words]", "[other]"))), quiet=True)
    after = times(folder)
    assert [name for name in before if before[name] != after[name]] == ["gather"]


def test_a_changed_file_of_ones_own_is_noticed() -> None:
    Path("mine.txt").write_text("one")
    course = Course.load(written("stages:\n  gather: {sources: [words, mine.txt]}\n"))
    folder = courses.run(course, quiet=True)
    first = content_hash(folder / "gather")
    assert [str(p.path) for p in read_parents(folder / "gather")] == ["mine.txt"]
    courses.run(course, quiet=True)
    assert content_hash(folder / "gather") == first
    Path("mine.txt").write_text("two")
    courses.run(course, quiet=True)
    assert content_hash(folder / "gather") != first


def test_from_redoes_that_stage_and_all_after() -> None:
    course = Course.load(written(GOOD))
    folder = courses.run(course, quiet=True)
    before = times(folder)
    courses.run(course, from_stage="sft", quiet=True)
    after = times(folder)
    assert {name for name in before if before[name] != after[name]} == {"sft", "vote", "prefer"}
    with pytest.raises(SettingsError, match=r"no stage is called 'sfft': did you mean 'sft'\?"):
        courses.run(course, from_stage="sfft", quiet=True)


def test_only_does_one_and_wants_its_parents() -> None:
    course = Course.load(written(GOOD))
    with pytest.raises(RunError, match=r"gather: not done, and talk is made from it: first .* --only gather"):
        courses.run(course, only="talk", quiet=True)
    assert not Path("runs").exists()
    courses.run(course, only="gather", quiet=True)
    folder = courses.run(course, only="talk", quiet=True)
    assert sorted(p.parent.name for p in folder.glob("*/done")) == ["gather", "talk"]
    with pytest.raises(SettingsError, match="--from and --only"):
        courses.run(course, only="talk", from_stage="talk", quiet=True)


def test_runs_that_moved_are_still_done() -> None:
    course = Course.load(written(GOOD))
    folder = courses.run(course, quiet=True)
    before = times(folder)
    Path("runs").rename("elsewhere")
    courses.run(course, runs=Path("elsewhere"), quiet=True)
    assert times(Path("elsewhere/small")) == before


@pytest.mark.parametrize("how", ["os", "words", "torch"])
def test_a_full_disk_is_one_line_and_leaves_no_run(how: str) -> None:
    course = Course.load(written(f"stages:\n  gather:\n  fill: {{how: {how}}}\n"))
    with pytest.raises(RunError, match=r"runs/small/fill: the disk is full: free some space") as found:
        courses.run(course, quiet=True)
    assert "\n" not in str(found.value)
    assert not list(Path("runs/small").glob("fill*"))
    assert Path("runs/small/gather/done").exists()


def test_another_fault_is_not_called_a_full_disk() -> None:
    with pytest.raises(ValueError, match="another fault"):
        courses.run(Course.load(written("stages:\n  fill: {how: else}\n")), quiet=True)


def test_a_report_that_a_kill_prevented_is_written_later() -> None:
    course = Course.load(written(GOOD))
    folder = courses.run(course, quiet=True)
    (folder / "talk" / "report.json").unlink()
    courses.run(course, quiet=True)
    assert (folder / "talk" / "report.json").exists()


def test_a_stage_by_itself_is_the_same_run(tmp_path: Path) -> None:
    course = Course.load(written(GOOD))
    folder = courses.run(course, quiet=True)
    recipe = course.recipe(course.lesson("sft"), folder)
    assert courses.execute_stage("learn", recipe, Path("alone/sft"), quiet=True)
    assert not courses.execute_stage("learn", recipe, Path("alone/sft"), quiet=True)
    assert content_hash(Path("alone/sft")) == content_hash(folder / "sft")
    assert (tmp_path / "alone/sft/report.html").exists()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_the_course_ends_the_same(tmp_path: Path, seed: int) -> None:
    written(GOOD)
    command = toys.command(tmp_path, "run", "small.yaml", "--quiet", "--runs")
    subprocess.run([*command, "calm"], check=True, capture_output=True)
    chance = random.Random(seed)
    kills = 0
    for _ in range(100):
        process = subprocess.Popen([*command, "wild"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=chance.uniform(0.3, 0.3 + 0.02 * (kills + 1)))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert kills >= 1
    for done in Path("calm/small").glob("*/done"):
        name = done.parent.name
        assert read_done(Path("wild/small") / name)["files"] == read_done(done.parent)["files"]
    course = Course.load(Path("small.yaml"))
    for lesson in course.lessons:
        recipe = course.recipe(lesson, Path("wild/small"))
        plain = courses.settings.plain(recipe)
        assert is_done(Path("wild/small") / lesson.name, lesson.stage, plain, courses.parents_of(recipe))


def test_a_course_is_run_by_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match=r"torchrun: a course is run by one process: give it one stage at a time"):
        courses.run(Course.load(written(GOOD)), runs=tmp_path)
