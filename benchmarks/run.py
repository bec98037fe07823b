"""Measures our stages beside their peers: `make bench`, or `make bench ONLY=sft`.

Ours and a peer are two processes, each in its own environment, of which only one computes at a time: they take turns by
windows of some seconds, so that both see the same machine. Of each pair of windows the ratio is taken; told are the
median and the range. Peers come one after the other, for two at a time fit in memory.

With one thread the clock is the processor time of the process, which a busy neighbour hardly moves; else the wall's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import environments
from arithmetic import Cost, Spread, Window, losses_at_equal_tokens, rate, ratio, tokens_to_equal_loss
from chart import draw
from contests import BENCHMARKS, LARGE, ON_CARDS, STAND_ALONE, Contest, Place, Side

HERE = Path(__file__).parent
WORK = HERE / ".work"
SILENCE = 900
"""Seconds without a word after which a side is given up."""


class SideError(Exception):
    """A side that stopped or fell silent; says what it wrote last."""

    def __init__(self, side: str, words: str) -> None:
        super().__init__(f"{side}: {words}")
        self.side = side


class Child:
    """A side's process, which computes only between `window`'s order and its answer."""

    def __init__(self, side: Side, threads: int, log: Path, variables: dict[str, str]) -> None:
        self.name, self.log = side.name, log
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TUTELAGE_THREADS"), str(threads))
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}
        command = [environments.python(side.environment), HERE / side.script, json.dumps(side.options)]
        with log.open("wb") as words:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, bufsize=0, cwd=log.parent,
                env={**os.environ, **counts, **quiet, **side.variables, **variables},
            )  # fmt: skip
        told = self._hear()
        self.version = str(told["version"])
        self.cost = Cost(**told["cost"])

    def window(self, seconds: float) -> dict[str, Any]:
        """Lets it run for so long, to the end of a step."""
        assert self.process.stdin
        self.process.stdin.write(f"go {seconds}\n".encode())
        return self._hear()

    def stop(self) -> None:
        """Ends it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line, ready = b"?", [self.process.stdout]
        while line and not line.startswith(b"{"):  # libraries may print while they are imported
            ready, _, _ = select.select([self.process.stdout], [], [], SILENCE)
            line = self.process.stdout.readline() if ready else b""
        if not line:
            if not ready:
                self.process.kill()
            self.stop()
            code = self.process.returncode
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
            why = f"stopped with code {code}" if ready else f"was silent for {SILENCE} s"
            raise SideError(self.name, f"{why}; its last words:\n" + "\n".join(last))
        return json.loads(line)


class Record:
    """The windows of one side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.version = ""
        self.windows: list[Window] = []
        self.curve: list[tuple[int, float]] = []
        self.peak = 0
        self.phases: dict[str, float] = {}

    def take(self, told: dict[str, Any], cost: Cost, warming: bool) -> None:
        """A window as the side told it; of a warming one only the losses and the memory are kept."""
        self.curve += [(int(tokens), float(loss)) for tokens, loss in told["losses"]]
        self.peak = max(self.peak, told["peak_memory_bytes"])
        self.phases = told.get("phases", {})
        if not warming:
            names = ("tokens", "samples", "flops", "seconds", "cpu_seconds")
            self.windows.append(Window(**{name: told[name] for name in names}).plus(cost))


class Meeting:
    """Our side, a peer and the machine's limit, taking turns."""

    def __init__(self, contest: Contest, place: Place, options: argparse.Namespace) -> None:
        self.contest, self.options = contest, options
        self.logs = place.work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place.work / "run", ignore_errors=True)
        (place.work / "run").mkdir()
        limit = Side(
            name="limit", script="gemm.py", environment="tutelage", setting="",
            options={"model": place.model(contest.model), "precision": contest.ours.precision},
        )  # fmt: skip
        self.limit = self.begin(limit)
        self.limits: list[dict[str, tuple[float, float]]] = []
        self.running: dict[str, Child] = {}

    def begin(self, side: Side, variables: dict[str, str] | None = None) -> Child:
        """Starts a side; it waits before its first step."""
        began = time.monotonic()
        child = Child(side, self.options.threads, self.logs / f"{side.name.replace(' ', '-')}.txt", variables or {})
        print(f"  {side.name}: {child.version}, ready after {time.monotonic() - began:.0f} s", flush=True)
        return child

    def turn(self, record: Record, variables: dict[str, str]) -> None:
        """A window of a side, which is begun and warmed if it does not stand ready."""
        name = record.side.name
        child = self.running.get(name)
        if child is None:
            child = self.running[name] = self.begin(record.side, variables)
            record.version, record.curve = child.version, []
            record.take(child.window(self.options.warming), child.cost, warming=True)
        told = child.window(max(self.options.window, self.contest.window))
        record.take(told, child.cost, warming=False)
        if self.contest.apart:
            self.end(name)

    def end(self, name: str) -> None:
        """Stops a side."""
        child = self.running.pop(name, None)
        if child:
            child.stop()

    def meet(self, mine: Record, rival: Record | None, variables: dict[str, str]) -> None:
        """So many rounds; who begins changes from round to round."""
        for number in range(self.options.repeats):
            order = [record for record in (mine, rival) if record]
            for record in order if number % 2 == 0 else reversed(order):
                self.turn(record, variables if record is rival else {})
            self.limits.append(self.limit.window(0.3 * 4)["rates"])
        if rival:
            self.end(rival.side.name)

    def peak_rate(self) -> float:
        """The machine's limit: the best shape's median rate."""
        which = int(self.options.clock == "cpu")
        shapes = self.limits[0]
        return max(Spread.of([found[name][which] for found in self.limits]).median for name in shapes)


def hold(contest: Contest, place: Place, options: argparse.Namespace) -> dict[str, Any]:
    """All of a contest; gives its rows, its curves and what was left out."""
    print(contest.name, flush=True)
    meeting = Meeting(contest, place, options)
    mine = Record(contest.ours)
    rows: list[dict[str, Any]] = []
    records = [mine]
    left_out: list[str] = []
    for side in [peer for peer in contest.peers if options.side in peer.name]:
        variables = {} if side.precision != "bf16" or contest.name in ON_CARDS else environments.bf16(side.environment)
        if variables is None:
            left_out.append(f"{side.name}: bf16 does not work on this machine")
            continue
        rival, before = Record(side), len(mine.windows)
        try:
            meeting.meet(mine, rival, variables)
        except SideError as error:
            if error.side != side.name:
                raise
            print(f"  {error}", flush=True)
            left_out.append(str(error).partition(";")[0])
            meeting.running.pop(side.name, None)
            del mine.windows[before:]
            continue
        records.append(rival)
        rows.append(row(contest, rival, meeting, mine, mine.windows[before:], variables))
        low, high = rows[-1]["range"]
        print(f"  ours is {rows[-1]['ratio']:.2f} ({low:.2f} to {high:.2f}) times {side.name}", flush=True)
    if not mine.windows:
        meeting.meet(mine, None, {})
    for name in list(meeting.running):
        meeting.end(name)
    meeting.limit.stop()
    rows.insert(0, row(contest, mine, meeting, mine, mine.windows, {}))
    return {
        "rows": rows,
        "curves": {record.side.name: record.curve for record in records},
        "gemm_flops_per_second": meeting.peak_rate(),
        "left_out": left_out,
    }


def row(
    contest: Contest, record: Record, meeting: Meeting, mine: Record, ours: list[Window], variables: dict[str, str]
) -> dict[str, Any]:
    """What is told of a side. ours: our windows that were paired with its own."""
    clock = meeting.options.clock
    against = ratio(ours, record.windows, clock)
    tokens, samples = rate(record.windows, "tokens", clock), rate(record.windows, "samples", clock)
    work = rate(record.windows, "flops", clock)
    extra = "".join(f", {name}={value}" for name, value in variables.items())
    found: dict[str, Any] = {
        "benchmark": contest.name,
        "side": record.side.name,
        "version": record.version,
        "setting": record.side.setting + extra,
        "precision": record.side.precision,
        "tokens_per_second": round(tokens.median, 1) or None,
        "samples_per_second": round(samples.median, 3),
        "peak_memory_bytes": record.peak,
        "ratio": round(against.median, 3),
        "range": [round(against.low, 3), round(against.high, 3)],
        "tokens_per_second_range": [round(tokens.low, 1), round(tokens.high, 1)],
        "share_of_gemm": round(work.median / meeting.peak_rate(), 3) or None,
        "windows": len(record.windows),
    }
    if record is not mine and record.curve and mine.curve:
        ours_loss, theirs_loss = losses_at_equal_tokens(mine.curve, record.curve)
        found |= {"loss_at_equal_tokens": round(theirs_loss, 3), "our_loss_at_equal_tokens": round(ours_loss, 3)}
        saved = tokens_to_equal_loss(mine.curve, record.curve)
        if contest.window and saved is not None:
            found["ratio_to_equal_loss"] = round(saved * against.median, 3)
    if record.phases:
        total = sum(record.phases.values())
        found["phases"] = {name: round(seconds / total, 3) for name, seconds in record.phases.items()}
    return found


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What one must know of the machine to compare."""
    import psutil

    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model, "cores": len(os.sched_getaffinity(0)), "threads": options.threads, "clock": options.clock,
        "memory_gib": round(psutil.virtual_memory().total / 2**30), "python": platform.python_version(),
        "busy_before": round(psutil.cpu_percent(interval=1.0) / 100, 2),
    }  # fmt: skip


def commit() -> str:
    """The state of our source."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def make_inputs(data: Path | None, large: bool) -> Path:
    """The folder of the inputs, made if it is not there; it is named by what it is made of."""
    recipe = hashlib.sha256((HERE / "inputs.py").read_bytes()).hexdigest()[:8]
    folder = WORK / f"{'real' if data else 'generated'}{'-large' if large else ''}-{recipe}"
    if not folder.exists():
        print("making the inputs", flush=True)
        WORK.mkdir(exist_ok=True)
        command = [sys.executable, str(HERE / "inputs.py"), "--output", str(folder)]
        command += (["--data", str(data)] if data else []) + (["--large"] if large else [])
        subprocess.run(command, check=True)
    return folder


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = HERE.parents[1] / "shared" / "data"
    given = os.environ.get("TUTELAGE_BENCHMARK_DATA") or (str(beside) if beside.is_dir() else "")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--only", choices=[*BENCHMARKS, *STAND_ALONE], help="one of the benchmarks")
    parser.add_argument("--side", default="", help="only peers with this in their names; ours alone if there are none")
    parser.add_argument("--data", default=given, help="a folder of real rows; without one they are made up")
    parser.add_argument("--threads", type=int, default=cores, help="of every side")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of windows with each peer")
    parser.add_argument("--window", type=float, default=6.0, help="seconds of a window, at least")
    parser.add_argument("--warming", type=float, default=4.0, help="seconds before the first window, at least")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.clock = "cpu" if options.threads == 1 else "wall"
    options.output.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else [*BENCHMARKS, *STAND_ALONE]:
        if name in ON_CARDS and not environments.has_card():
            print(f"{name}: left out, for torch sees no CUDA device here", flush=True)
            continue
        began = time.monotonic()
        (measure if name in BENCHMARKS else collect)(name, options)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def measure(name: str, options: argparse.Namespace) -> None:
    """One benchmark, with its files in the folder of results."""
    data = Path(options.data) if options.data else None
    inputs = make_inputs(data, large=name in LARGE)
    known = json.loads((inputs / "inputs.json").read_text(encoding="utf-8"))
    place = Place(inputs, WORK)
    result: dict[str, Any] = {
        "commit": commit(), "machine": machine(options), "inputs": known, "repeats": options.repeats,
        "window_seconds": options.window,
    }  # fmt: skip
    held = {contest.name: hold(contest, place, options) for contest in BENCHMARKS[name](place)}
    result["rows"] = [one for contest in held.values() for one in contest["rows"]]
    result["contests"] = {
        which: {key: value for key, value in contest.items() if key != "rows"} for which, contest in held.items()
    }
    write(name, result, options)
    (options.output / f"{name}.svg").write_text(draw(result), encoding="utf-8")


def collect(name: str, options: argparse.Namespace) -> None:
    """The rows of a script that measures by itself."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TUTELAGE_THREADS"), str(options.threads))
    command = [sys.executable, str(HERE / f"{name}.py")]
    printed = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **counts}, check=True
    ).stdout
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    write(name, {"commit": commit(), "machine": machine(options), "rows": rows}, options)


def write(name: str, result: dict[str, Any], options: argparse.Namespace) -> None:
    """The file of a result."""
    text = json.dumps(result, ensure_ascii=False, indent=1)
    (options.output / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except SideError as error:
        sys.exit(str(error))
