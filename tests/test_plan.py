"""plan: sizes of models against the time and the memory there is."""

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tutelage import plan as planning
from tutelage.cli import main
from tutelage.plan import Budget, Row, plan
from tutelage.stages import pretrain
from tutelage.training import pace

PRODUCT, ELSE = 1e11, 2e-7
"""A machine: FLOP/s of its products, and the seconds that all else takes for each of width by blocks."""


def seconds(config: Any, work: float) -> float:
    return work / PRODUCT + ELSE * config.hidden_size * config.num_hidden_layers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A machine that keeps to that law and tells what was measured: width and tokens of a row."""
    now, asked = [0.0], []

    def steps(config: Any, settings: Any, length: int, tokens: int, wanted: float) -> pace.Steps:
        token = seconds(config, pace.size(config, settings, length).work)
        now[0] += max(3.5 * token * tokens, wanted)
        asked.append((config.hidden_size, tokens))
        return pace.Steps(token, 1e-3, 1000 * config.num_hidden_layers, 1 << 24)

    monkeypatch.setattr(pace, "machine", lambda: pace.Machine("CPU, 2 threads, float32", PRODUCT, 2e10, 8 << 30))
    monkeypatch.setattr(pace, "steps", steps)
    monkeypatch.setattr(planning, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return asked


def test_the_best_size_has_twenty_tokens_for_each_parameter(clock: list[tuple[int, int]]) -> None:
    widths: list[int] = []
    for hours in (1 / 12, 1, 12, 144):
        found = plan(Budget(hours=hours))
        assert found.best is not None
        best = found.rows[found.best]
        widths.append(best.hidden_size)
        assert 6 < best.tokens_per_parameter < 60
        assert best.tokens == pytest.approx(hours * 3600 * best.tokens_per_second, abs=1)
        assert best.hours == pytest.approx(hours * 20 / best.tokens_per_parameter)
        assert best.fits
    assert widths == sorted(set(widths))
    assert clock[0] == (64, 2048)


def test_what_is_reckoned_agrees_with_what_would_be_measured(clock: list[tuple[int, int]]) -> None:
    """On a machine that keeps to the law; an update takes a little time too."""
    found = plan(Budget(hours=12))
    assert 2 < planning.time.monotonic() < planning.MEASURED + 0.3
    assert {row.measured for row in found.rows} == {True, False}
    for row in found.rows:
        one = planning.counted(Budget(), row.hidden_size, row.num_hidden_layers)
        assert row.tokens_per_second == pytest.approx(1 / seconds(one.config, one.size.work), rel=0.02)
    measured = {row.hidden_size for row in found.rows if row.measured}
    assert {width for width, _ in clock} - {64} <= measured
    assert found.best is not None
    assert found.rows[found.best].measured


def test_memory_limits_the_size(clock: list[tuple[int, int]]) -> None:
    ample = plan(Budget(hours=144))
    tight = plan(Budget(hours=144, memory=0.2))
    assert ample.best is not None
    assert tight.best is not None
    assert tight.rows[tight.best].memory <= 0.2 * (1 << 30) < ample.rows[ample.best].memory
    assert any(not row.fits for row in tight.rows)
    none = plan(Budget(memory=0.01))
    assert none.best is None
    assert "none of them fits" in text(none)
    assert clock


def text(found: planning.Plan) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(planning.shown(found))
    return console.export_text()


def test_the_lines_are_a_recipe_of_pretrain(clock: list[tuple[int, int]]) -> None:
    import yaml

    from tutelage import settings

    found = plan(Budget(hours=2, optimizer="muon", batch_tokens=4096))
    said = text(found)
    written = yaml.safe_load(said[said.index("  pretrain:") :])["pretrain"]
    recipe = settings.check(pretrain.Recipe, written, "test")
    assert found.best is not None
    best = found.rows[found.best]
    assert (recipe.hidden_size, recipe.optimizer, recipe.batch_tokens) == (best.hidden_size, "muon", 4096)
    assert 0.9 * best.tokens <= recipe.max_tokens <= best.tokens
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "…" not in said
    assert clock


def test_numbers_are_written_for_people() -> None:
    assert [planning.in_units(n) for n in (999, 1_380_000, 2_100_000_000)] == ["999", "1.38 M", "2.1 G"]
    assert [planning.in_time(h) for h in (0.05, 1 / 3, 12.7, 480)] == ["3 min", "20 min", "12.7 h", "20 days"]
    assert [planning.in_bytes(n) for n in (60 << 20, 3 << 30)] == ["60 MiB", "3 GiB"]
    assert [planning.rounded(n) for n in (7, 821_345, 2_099_999)] == [7, 820_000, 2_000_000]


def test_ties_and_ends_of_the_ladder(clock: list[tuple[int, int]]) -> None:
    rows = list(plan(Budget()).rows)
    few: list[Row] = [replace(row, tokens_per_parameter=1e-3, tokens=0) for row in rows]
    assert planning.around(few)[1] == 0
    many = [replace(row, tokens_per_parameter=1e6 / 10**place) for place, row in enumerate(rows)]
    near, best = planning.around(many)
    assert best == planning.SHOWN
    assert list(near) == many[-planning.SHOWN - 1 :]
    assert clock


def test_this_machine_in_a_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.process_time()
    assert main(["plan", "--minutes", "5", "--vocab-size", "300", "--json"]) == 0
    assert time.process_time() - began < 12
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["measured"]
    assert found["machine"]["product"] > 1e8
    assert found["budget"]["hours"] == pytest.approx(1 / 12)
    for row in found["rows"]:
        assert 0 < row["share"] < 3
        assert row["parameters"] > row["without_embeddings"] > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--minutes", "0"], "tutelage plan: hours: found 0.0: input should be greater than 0"),
        (["--optimizer", "sgd"], "tutelage plan: optimizer: found 'sgd'"),
        (["--architecture", "qwenn"], "architecture: 'qwenn'"),
        (["--architecture", "bert"], "needs a decoder"),
        (["--max-length", "1"], "tutelage plan: max_length: found 1"),
    ],
)
def test_bad_input_is_answered_in_a_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_help_imports_no_torch() -> None:
    code = "import sys; from tutelage.cli import main\ntry: main(['plan', '--help'])\nexcept SystemExit: pass\n"
    child = subprocess.run(
        [sys.executable, "-c", code + "assert 'torch' not in sys.modules"], capture_output=True, text=True, check=True
    )
    assert "--minutes" in child.stdout
