"""Run folders written by hand, as the stages write them, and what the cards and pages make of them."""

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tutelage.errors import RunError
from tutelage.evaluation import charts, findings, pages, report
from tutelage.evaluation.card import Card
from tutelage.run import write_json

EVIL = '<script>alert("x")</script> & `x` </pre>'
SHARE = {"mean": 0.5, "low": 0.4, "high": 0.6, "prompts": 60}


def make(folder: Path, stage: str, metrics: list[dict[str, Any]] | None = None, **files: Any) -> Path:
    folder.mkdir(parents=True)
    recipe = {"stage": stage, "model": "/elsewhere/sft", "beta": 0.1, "config": None}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    write_json(folder / "parents.json", [{"name": "model", "path": "/elsewhere/sft", "hash": "abcdef0123456789"}])
    if metrics is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    write_json(folder / "done", {"stage": stage, "hash": "fedcba9876543210" * 4, "files": {}, "seconds": 61.0})
    return folder


def model_found(name: str, mean: float) -> dict[str, Any]:
    return {
        "name": name,
        "accuracy": [{"task": task, **SHARE, "mean": mean} for task in ("kind", "recall", "all")],
        "stopped": {**SHARE, "mean": 0.97},
        "tokens": 21.0,
        "points": 3.2,
        "rule": {"right_object": 0.8, "one_sentence": 0.7, "no_invented_name": 0.9, "ends_properly": 0.8},
        "behaviour": {"sentences": 1.5, "hedge": 0.0},
        "bits_per_byte": 1.25,
    }


RESULTS: dict[str, Any] = {
    "rule": "One point each.\nShort: it is\nshort.",
    "prompts": 120,
    "models": [model_found("base", 0.1), model_found("sft", 0.45), model_found("ppo", 0.55)],
    "win_rates": [
        {"model": "sft", "over": "base", "mean": 0.9, "low": 0.85, "high": 0.95, "prompts": 120},
        {"model": "ppo", "over": "sft", "mean": 0.52, "low": 0.45, "high": 0.59, "prompts": 120},
    ],
    "gains": [
        {"model": "sft", "over": "base", "task": "all", "mean": 0.35, "low": 0.3, "high": 0.4, "prompts": 120},
        {"model": "ppo", "over": "sft", "task": "kind", "mean": -0.08, "low": -0.1, "high": -0.06, "prompts": 60},
    ],
    "kl": [{"model": "ppo", "over": "sft", "mean": 2.5, "low": 2.0, "high": 3.0, "prompts": 50}],
    "reward": {"name": "judge", "mean": 0.8, "low": 0.7, "high": 0.9, "pairs": 100},
    "notes": ["Decoded greedily."],
}

CORPUS = {
    "documents": 80,
    "bytes": 2_000_000,
    "licences": [{"name": "PSF-2.0"}],
    "funnel": [{"rule": "read", "documents": 0, "left": 100}, {"rule": "too short", "documents": 20, "left": 80}],
    "splits": [{"name": "train", "documents": 76}, {"name": "held_out", "documents": 4}],
}


def education(root: Path) -> Path:
    losses = [{"step": i, "loss": 5 - i / 50, "tokens": 100, "learning_rate": 1e-3} for i in range(100)]
    make(root / "prepare", "prepare", [{"step": 0, "documents": 80}], card=CORPUS)
    make(root / "base", "pretrain", [*losses, {"step": 100, "split": "held_out", "bits_per_byte": 1.3}])
    said = [
        {"name": "base", "text": EVIL, "stopped": False},
        {"name": "sft", "text": "它是一个函数。", "stopped": True},
    ]
    sample = {"prompt": [{"role": "user", "content": f"What? {EVIL}"}], "reference": "A function.", "answers": said}
    make(root / "sft", "sft", losses, samples=[sample])
    make(root / "judge", "reward", losses)
    make(root / "ppo", "ppo", [{"step": i, "score": i / 10, "kl": i / 20} for i in range(60)], samples=[sample])
    make(root / "marks", "evaluate", [{"step": 0, "model": "base", "accuracy": 0.1}], results=RESULTS, samples=[sample])
    stages = dict.fromkeys(["prepare", "base", "sft", "judge", "ppo", "marks", "later"])
    write_json(
        root / "course.json", {"file": "x.yaml", "set": [], "text": yaml.safe_dump({"stages": stages}, sort_keys=False)}
    )
    return root


class Page(HTMLParser):
    """Checks that every element is closed, and collects what stands in it."""

    VOID = ("meta", "path", "line", "circle", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.answers: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "pre" and ("class", "answer") in attrs:
            self.answers.append("")
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert not (name in ("href", "src") and (value or "").startswith(("http", "//", "/")))

    def handle_startendtag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "pre" and self.answers:
            self.answers[-1] += data
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def shown(folder: Path, card: Card) -> Page:
    report.write(folder, card)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_run_is_read_from_its_folder(tmp_path: Path):
    card = report.stage_card(education(tmp_path / "first") / "base")
    assert (card.title, card.stage, card.seconds) == ("base", "pretrain", 61.0)
    assert card.metrics["loss"] == pytest.approx(sum(5 - i / 50 for i in range(90, 100)) / 10)
    assert card.metrics["held_out_bits_per_byte"] == 1.3
    assert card.metrics["tokens"] == 10_000
    assert set(card.curves) == {"loss", "learning_rate"}  # one point is a number, not a curve
    assert card.settings == {"model": "sft abcdef01", "beta": "0.1", "config": "none"}


def test_parameters_are_counted_without_loading_them(tmp_path: Path):
    tensors = {"a": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]},
               "b": {"dtype": "F32", "shape": [7], "data_offsets": [60, 88]}}  # fmt: skip
    head = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(88))
    assert findings.parameters(tmp_path) == 22
    assert findings.parameters(tmp_path / "nothing") == 0


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path):
    folder = make(tmp_path / "run", "sft", [{"step": 0, "loss": float("nan")}, {"step": 1, "loss": 2.0, "kl": 1}])
    card = report.stage_card(folder)
    assert card.metrics == {"loss": 2.0, "kl": 1.0}
    report.write(folder, card)


def test_the_page_of_a_stage_shows_answers_as_text(tmp_path: Path):
    folder = education(tmp_path / "first") / "sft"
    page = shown(folder, report.stage_card(folder))
    assert "script" not in page.tags
    assert EVIL in page.answers
    assert "它是一个函数。" in page.answers
    assert "cut off" in page.text
    assert "1 min 1 s" in page.text
    assert "Loss" in page.text


def test_the_json_of_a_course(tmp_path: Path):
    root = education(tmp_path / "first")
    report.write(root, report.course_card(root))
    found = json.loads((root / "report.json").read_text())
    assert found["course"] == "first"
    assert list(found["stages"]) == ["prepare", "base", "sft", "judge", "ppo", "marks"]
    ppo = found["stages"]["ppo"]
    assert (ppo["stage"], ppo["seconds"]) == ("ppo", 61.0)
    assert ppo["win_rates"] == [RESULTS["win_rates"][1]]
    assert ppo["gains"] == [RESULTS["gains"][1]]
    assert set(ppo["win_rates"][0]) >= {"over", "mean", "low", "high", "prompts"}
    assert ppo["metrics"]["held_out_accuracy"] == 0.55
    assert ppo["metrics"]["held_out_accuracy/kind"] == 0.55
    assert (ppo["metrics"]["held_out_kl"], ppo["metrics"]["stopped"]) == (2.5, 0.97)
    assert ppo["metrics"]["kl"] == pytest.approx(sum(i / 20 for i in range(54, 60)) / 6)
    assert found["stages"]["base"]["metrics"]["held_out_bits_per_byte"] == 1.25  # evaluation is asked last
    assert found["stages"]["judge"]["metrics"]["held_out_accuracy"] == 0.8
    assert found["stages"]["prepare"]["documents"][1] == {"what": "too short", "count": 20, "kept": False}
    assert found["stages"]["base"]["win_rates"] == []
    assert "accuracy" not in found["stages"]["marks"]["metrics"]  # a line of a table is no point of a curve


def test_the_page_of_a_course_tells_the_whole_story(tmp_path: Path):
    root = education(tmp_path / "first")
    page = shown(root, report.course_card(root))
    for words in (
        "The education of first", "ppo over sft", "no difference seen", "better", "KL 2.5", "One point each.",
        "+35.0 over base +30.0 to +40.0", "-8.0 over sft -10.0 to -6.0",
        "too short", "all tasks", "recall", "Decoded greedily.", "10 % → 45 %", "The documents say",
    ):  # fmt: skip
        assert words in page.text, words
    assert "script" not in page.tags
    text = (root / "report.html").read_text(encoding="utf-8")
    assert 'href="ppo/report.html"' in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?://", text)


def test_reports_are_stable(tmp_path: Path):
    for name in ("a", "b"):
        root = education(tmp_path / name / "first")
        report.write(root, report.course_card(root))
        report.write(root / "ppo", report.stage_card(root / "ppo"))
    for file in ("report.html", "report.json", "ppo/report.html", "ppo/report.json"):
        assert (tmp_path / "a/first" / file).read_bytes() == (tmp_path / "b/first" / file).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a/first/report.json").read_text()


def test_a_course_half_done_and_one_just_begun(tmp_path: Path):
    root = tmp_path / "first"
    root.mkdir()
    assert "No stage is done yet" in shown(root, report.course_card(root)).text
    make(root / "base", "pretrain", [{"step": 0, "loss": 3.0}])
    page = shown(root, report.course_card(root, [("base", root / "base"), ("sft", root / "sft")]))
    assert "base" in page.text
    assert json.loads((root / "report.json").read_text())["stages"]["base"]["metrics"] == {"loss": 3.0}


def test_samples_on_the_screen(tmp_path: Path):
    folder = education(tmp_path / "first") / "sft"
    console = Console(record=True, width=100, file=open(tmp_path / "screen", "w"))  # noqa: SIM115
    report.print_samples(folder, console)
    text = console.export_text()
    assert text.index("base (cut: it did not stop)") < text.index("它是一个函数。")
    assert EVIL in text
    report.print_samples(tmp_path / "first" / "prepare", console)
    assert console.export_text().strip() == ""
    console.file.close()


def test_damaged_and_missing_runs(tmp_path: Path):
    with pytest.raises(RunError, match="not a run"):
        report.stage_card(tmp_path / "nothing")
    folder = make(tmp_path / "run", "sft")
    (folder / "samples.json").write_text("[{")
    with pytest.raises(RunError, match=r"samples\.json: damaged"):
        report.stage_card(folder)
    write_json(tmp_path / "course.json", {"text": "- a list"})
    with pytest.raises(RunError, match=r"course\.json: damaged"):
        report.course_card(tmp_path)


def test_a_curve_in_its_square():
    drawn = charts.plot("Loss", "", [(0, 4.0), (5, 2.0), (10, 3.0)], [(10, 4.0)])
    points = [tuple(map(int, p.split())) for p in drawn.raw[1:].split("L")]
    assert [x for x, _ in points] == [0, 500, 1000]
    assert points[1][1] == max(y for _, y in points)  # the smallest value is lowest
    assert all(0 <= y <= 1000 for _, y in points)
    assert drawn.held_out.startswith("M1000 ")
    assert (drawn.steps, drawn.smooth) == (("0", "10"), "")


def test_long_curves_are_averaged_and_smoothed():
    drawn = charts.plot("Loss", "", [(i, float(i % 2)) for i in range(10_000)])
    assert drawn.raw.count("L") == charts.POINTS - 1
    heights = {int(p.split()[1]) for p in drawn.smooth[1:].split("L")}
    assert max(heights) - min(heights) < 500


def test_axes_hold_the_data_and_have_round_ticks():
    assert charts.axis(0, 9.3)[2] == [0, 2.5, 5, 7.5]
    for low, high in ((2.1, 2.9), (-3, 1), (0.5, 0.5), (0, 0), (1e-5, 2e-5), (-7, -7)):
        bottom, top, ticks = charts.axis(low, high)
        assert bottom <= low
        assert high <= top
        assert 2 <= len(ticks) <= 6
        assert all(bottom - 1e-9 <= tick <= top + 1e-9 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345, "12,345"), (5.2e6, "5.2 M"), (0.4821, "0.482"), (2.4e-4, "2.4 × 10⁻⁴"), (-2.345, "−2.35"),
     (3.0, "3"), (float("inf"), "not a number")],
)  # fmt: skip
def test_numbers_as_people_write_them(value: float, text: str):
    assert charts.number(value) == text


def test_durations_and_shares():
    assert [pages.duration(s) for s in (0.5, 59.96, 61, 7384)] == ["0.5 s", "1 min 0 s", "1 min 1 s", "2 h 3 min"]
    assert [pages.percent(s) for s in (0, 0.031, 0.5, 0.999, 1)] == ["0 %", "3.1 %", "50 %", "99.9 %", "100 %"]


def test_a_rule_in_points():
    assert pages.rule(RESULTS["rule"]) == [("", "One point each."), ("Short", "it is short.")]
    assert pages.rule("") == []
