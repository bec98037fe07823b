"""`prepare` killed at any moment and begun again gives the same bytes, and redoes no part that was done."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import sys
from tutelage.corpus import compression, parts
parts.PART, compression.STEP = 30_000, 5_000
from tutelage.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Rows with copies, long stretches of others, an advertisement and records that are broken."""
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 8))) for _ in range(2000)] + [
        "the",
        "of",
        "and",
    ] * 60
    advert = "Planning your big day? Call the wedding company of your choice and receive a free photograph of it all!"
    rows: list[str] = []
    for number in range(800):
        text = f"{' '.join(draw.choices(words, k=120))}. {advert if number % 5 == 0 else ''}"
        rows.append(json.dumps({"id": f"d{number}", "text": text, "licence": "MIT" if number % 11 else "GPL-3.0-only"}))
        if number % 20 == 0:
            rows.append(json.dumps({"id": f"c{number}", "text": text.upper(), "licence": "MIT"}))
            rows.append('{"text": "broken')
            fresh = ". ".join(" ".join(draw.choices(words, k=40)) for _ in range(3))
            quoting = f"{fresh}. {' '.join(text.split()[:60])}."
            rows.append(json.dumps({"id": f"q{number}", "text": quoting, "licence": "MIT"}))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "command.py").write_text(COMMAND)
    return tmp_path / "rows.jsonl"


def begin(source: Path, output: Path, processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(source.with_name("command.py")), "prepare", "--sources", str(source), "--quiet"]
    command += ["--output", str(output), "--processes", str(processes), "--shared-stretches", "40"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"})


def hash_of(output: Path) -> str:
    return json.loads((output / "done").read_text())["hash"]


def done(output: Path) -> dict[str, int]:
    """The parts that are done, and when each was."""
    half = output.with_name(output.name + ".partial") / "checkpoint"
    return {
        f"{step}/{part.name}": part.stat().st_ino
        for step in ("judged", "stripped", "applied")
        for part in (half / step).glob("?????")
    }


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path, source: Path) -> None:
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert begin(source, whole, 1).wait() == 0
    lasts = time.monotonic() - began
    output = tmp_path / "killed"
    draw = random.Random(7)
    for attempt in range(12):
        before = done(output)
        running = begin(source, output, 1 + attempt % 2)
        try:
            # From its first imports to a little beyond the end of what is left to do.
            running.wait(lasts * draw.uniform(0.35, 0.9))
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
        if output.exists():
            break
        after = done(output)
        assert {name: after[name] for name in before} == before
    if not output.exists():
        assert begin(source, output, 2).wait() == 0
    assert hash_of(output) == hash_of(whole)
    assert not (output / "checkpoint").exists()
