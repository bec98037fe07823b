"""The benchmarks' arithmetic and their runner, with sides that only pretend to learn."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

SIDE = """
import json, sys, time
print("what a library prints when it is imported", flush=True)
sys.path.insert(0, {folder!r})
import pace

now = 0.0
time.perf_counter = time.process_time = lambda: now

class Orders:
    def readline(self, inner=sys.stdin.readline):
        global now
        now += 1000
        return inner()

sys.stdin = Orders()
options = json.loads(sys.argv[1])
side = pace.Pace(options, "pytest")
side.ready(seconds=options.get("charge", 0.0))
print("what a library prints later")
for step in range(1 << 30):
    if step == options.get("dies", -1):
        sys.exit("out of ideas")
    now += options["step"]
    side.sequences([10, 20], 12, 2, repeats=options.get("repeats", 1))
    side.step(loss=8.0 - step)
"""
"""Its clock moves by the steps that it pretends to take, and by much more while it waits for an order."""


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    names = ("arithmetic", "chart", "contests", "environments", "page", "run")
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(BENCHMARKS))
    for name in names:
        del sys.modules[name]


def side(bench: dict[str, ModuleType], folder: Path, name: str, **options: Any) -> Any:
    script = folder / "side.py"
    script.write_text(SIDE.format(folder=str(BENCHMARKS)), encoding="utf-8")
    return bench["contests"].Side(
        name=name, script=str(script), environment="tutelage", setting="toy", options={"step": 1.0, **options}
    )


def child(bench: dict[str, ModuleType], folder: Path, **options: Any) -> Any:
    return bench["run"].Child(side(bench, folder, "toy", **options), 1, folder / "words.txt", {})


def window(bench: dict[str, ModuleType], tokens: int, seconds: float, cpu_seconds: float = 1.0) -> Any:
    return bench["arithmetic"].Window(tokens, tokens / 10, 1e9 * tokens, seconds, cpu_seconds)


def test_useful_work_is_what_torch_counts(bench: dict[str, ModuleType]):
    """The plain architecture, forward and backward; its attention computes a whole square, half of which is useful."""
    import tiny
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny.eager(tiny.make_model("qwen2"))
    shape = bench["arithmetic"].Shape.of(model.config.to_dict())
    length = 24
    ids = torch.arange(length)[None] + 10
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    useful = bench["arithmetic"].useful_flops
    attention = 6 * shape.layers * shape.width * length**2
    assert useful(shape, length, length, length**2) + attention == counter.get_total_flops()
    # A reference reads the same without a backward pass, which is a third of it.
    assert 3 * useful(shape, 7, 5, 49, reference=True) == 4 * useful(shape, 7, 5, 49)


def test_a_ratio_is_taken_pair_by_pair(bench: dict[str, ModuleType]):
    """The machine slows down by half between two pairs: the rates change, the ratio does not."""
    ours = [window(bench, 300, 1.0), window(bench, 300, 2.0), window(bench, 330, 1.0)]
    theirs = [window(bench, 100, 1.0), window(bench, 100, 2.0), window(bench, 100, 1.0)]
    found = bench["arithmetic"].ratio(ours, theirs, "wall")
    assert (found.median, found.low, found.high) == pytest.approx((3.0, 3.0, 3.3))
    assert bench["arithmetic"].rate(theirs, "tokens", "wall").median == 100
    assert bench["arithmetic"].rate(theirs, "flops", "cpu").median == 1e11


def test_processor_time_is_another_clock(bench: dict[str, ModuleType]):
    ours, theirs = window(bench, 100, 4.0, cpu_seconds=1.0), window(bench, 100, 1.0, cpu_seconds=2.0)
    assert bench["arithmetic"].ratio([ours], [theirs], "wall").median == 0.25
    assert bench["arithmetic"].ratio([ours], [theirs], "cpu").median == 2.0


def test_what_was_computed_beforehand_is_charged_by_the_sample(bench: dict[str, ModuleType]):
    charged = window(bench, 100, 1.0).plus(bench["arithmetic"].Cost(seconds=0.1, cpu_seconds=0.2))
    assert (charged.seconds, charged.cpu_seconds) == (2.0, 3.0)
    assert charged.tokens == 100


def test_losses_are_compared_where_both_have_been(bench: dict[str, ModuleType]):
    """The faster side's later, lower losses do not count: the last quarter of 400 tokens is its fourth step."""
    ours = [(100, loss) for loss in (9.0, 8.0, 7.0, 6.0, 5.0, 4.0)]
    theirs = [(200, 9.0), (200, 7.5)]
    assert bench["arithmetic"].losses_at_equal_tokens(ours, theirs) == (6.0, 7.5)


def test_a_side_computes_only_when_it_is_told_to(bench: dict[str, ModuleType], tmp_path: Path):
    toy = child(bench, tmp_path, charge=0.5)
    assert toy.version.startswith("pytest ")
    assert toy.cost.seconds == 0.5
    first, second = toy.window(2.5), toy.window(0.0)
    toy.stop()
    assert (first["seconds"], first["tokens"], first["samples"]) == (3.0, 90, 6.0)
    assert first["losses"] == [[30, 8.0], [30, 7.0], [30, 6.0]]
    assert second["seconds"] == 1.0, "the pause was counted"
    assert second["losses"] == [[30, 5.0]], "it went on meanwhile"
    assert first["peak_memory_bytes"] > 1 << 20
    assert "what a library prints later" in toy.log.read_text(encoding="utf-8")


def test_what_is_read_three_times_is_counted_once(bench: dict[str, ModuleType], tmp_path: Path):
    toy = child(bench, tmp_path, repeats=3)
    assert toy.window(0.0)["tokens"] == 10
    toy.stop()


def test_a_side_that_dies_is_quoted(bench: dict[str, ModuleType], tmp_path: Path):
    toy = child(bench, tmp_path, dies=1)
    toy.window(0.0)
    with pytest.raises(bench["run"].SideError, match=r"(?s)toy: stopped with code 1.*out of ideas"):
        toy.window(0.0)


@pytest.fixture
def held(bench: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A contest of two sides of which ours is three times as fast."""
    limit = {"rates": {"square": [4e9, 2e9], "small": [1e9, 1e9]}}

    class Limit:
        def window(self, _: float) -> dict[str, Any]:
            return limit

        def stop(self) -> None:
            pass

    begin = bench["run"].Meeting.begin

    def begun(meeting: Any, side: Any, variables: dict[str, str] | None = None) -> Any:
        return Limit() if side.name == "limit" else begin(meeting, side, variables)

    monkeypatch.setattr(bench["run"].Meeting, "begin", begun)
    ours, slow = side(bench, tmp_path, "tutelage"), side(bench, tmp_path, "slow", step=3.0)
    broken = side(bench, tmp_path, "broken", dies=2)
    contest = bench["contests"].Contest(name="toys", model="small", ours=ours, peers=(broken, slow))
    place = bench["contests"].Place(tmp_path, tmp_path)
    options = argparse.Namespace(threads=1, clock="wall", repeats=3, window=6.0, warming=1.0, side="")
    machine = {"processor": "toy", "cores": 1, "threads": 1, "memory_gib": 1, "clock": "wall"}
    found = bench["run"].hold(contest, place, options)
    return {
        "machine": machine, "inputs": {"source": "none"}, "repeats": 3, "window_seconds": 6.0, "commit": "0",
        "rows": found["rows"], "contests": {"toys": {key: found[key] for key in found if key != "rows"}},
    }  # fmt: skip


def test_a_contest_from_end_to_end(bench: dict[str, ModuleType], held: dict[str, Any]):
    ours, slow = held["rows"]
    assert (ours["side"], ours["ratio"], ours["range"]) == ("tutelage", 1.0, [1.0, 1.0])
    assert (slow["ratio"], slow["range"]) == (3.0, [3.0, 3.0])
    assert slow["windows"] == ours["windows"] == 3, "windows without their pair are counted"
    assert held["contests"]["toys"]["left_out"] == ["broken: stopped with code 1"]
    assert (ours["tokens_per_second"], slow["tokens_per_second"]) == (30.0, 10.0)
    assert held["contests"]["toys"]["gemm_flops_per_second"] == 4e9
    assert slow["loss_at_equal_tokens"] == slow["our_loss_at_equal_tokens"], "both lose 1 a step of 30 tokens"

    drawing = ElementTree.fromstring(bench["chart"].draw(held))
    said = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"tutelage", "slow", "loss by tokens read"} <= said

    page = bench["page"].updated("a\n<!-- results -->\nold\n<!-- /results -->\nb\n", {"toys": held})
    assert "old" not in page
    assert f"| {slow['ratio']:.2f} (" in page
    assert bench["page"].updated(page, {"toys": held}) == page
    with pytest.raises(ValueError, match="no marks"):
        bench["page"].updated("a page", {})


def test_the_page_has_the_results_that_are_there(bench: dict[str, ModuleType]):
    page = bench["page"].PAGE.read_text(encoding="utf-8")
    assert bench["page"].updated(page, bench["page"].read()) == page, "python benchmarks/page.py rewrites it"


def test_our_settings_are_known_to_our_stages(bench: dict[str, ModuleType], tmp_path: Path):
    """A recipe's field that was renamed shows here, not in the middle of a measurement."""
    from tutelage import settings

    (tmp_path / "documents.jsonl").write_text("{}\n", encoding="utf-8")
    place = bench["contests"].Place(tmp_path, tmp_path)
    for contests in bench["contests"].BENCHMARKS.values():
        for contest in contests(place):
            options = json.loads(json.dumps(contest.ours.options))
            if options["task"] != "serve":
                stage = importlib.import_module(f"tutelage.stages.{options['task']}")
                settings.check(stage.Recipe, options["recipe"], contest.name)
            for peer in contest.peers:
                assert (BENCHMARKS / peer.script).exists()
                assert peer.environment in (*bench["environments"].PACKAGES, "tutelage")


def test_who_reaches_a_loss_with_fewer_tokens_is_told(bench: dict[str, Any]) -> None:
    falling = [(100, 10 - 0.1 * step) for step in range(60)]
    twice_as_quick = [(100, 10 - 0.2 * step) for step in range(60)]
    found = bench["arithmetic"].tokens_to_equal_loss(twice_as_quick, falling)
    assert found == pytest.approx(60 / 33)  # theirs ends at 4.45 over its last eight steps, ours is there after 33
    assert bench["arithmetic"].tokens_to_equal_loss(falling, falling) == 1
    assert bench["arithmetic"].tokens_to_equal_loss(falling, twice_as_quick) == pytest.approx(1 / found)
    assert bench["arithmetic"].tokens_to_equal_loss(falling[:20], falling) is None
