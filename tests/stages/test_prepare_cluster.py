"""One process, two, and Daft on a local Ray cluster write the same bytes."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import sys
from tutelage.corpus import compression, parts
parts.PART, compression.STEP = 20_000, 5_000
from tutelage.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
CLUSTER = pytest.mark.skipif(
    not (importlib.util.find_spec("daft") and importlib.util.find_spec("ray")),
    reason="needs pip install 'tutelage[distributed]'",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 8))) for _ in range(2000)]
    words += ["the", "of", "and"] * 60
    advert = "Planning your big day? Call the wedding company of your choice and receive a free photograph of it all!"
    texts = [f"{' '.join(draw.choices(words, k=90))}. {advert if n % 5 == 0 else ''}" for n in range(400)]
    texts += [text.upper() for text in texts[::20]] + [text.replace(" of ", " to ", 1) for text in texts[7::20]]
    fresh = [". ".join(" ".join(draw.choices(words, k=30)) for _ in range(3)) for _ in range(20)]
    texts += [f"{new}. {' '.join(old.split()[:60])}." for new, old in zip(fresh, texts[3:400:20], strict=True)]
    rows = [json.dumps({"id": f"d{number}", "text": text, "licence": "MIT"}) for number, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, "{broken"]))
    (tmp_path / "command.py").write_text(COMMAND)
    return tmp_path / "rows.jsonl"


def made(source: Path, name: str, *flags: str) -> str:
    """The hash of everything that a run writes."""
    output = source.with_name(name)
    command = [sys.executable, str(source.with_name("command.py")), "prepare", "--sources", str(source), "--quiet"]
    done = subprocess.run(
        [*command, "--output", str(output), *flags], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert len(list((output / "documents").iterdir())) > 5
    return str(json.loads((output / "done").read_text())["hash"])


def test_one_process_and_two(source: Path) -> None:
    flags = ("--shared-stretches", "40", "--processes")
    assert made(source, "one", *flags, "1") == made(source, "two", *flags, "2")
    card = json.loads(source.with_name("one").joinpath("card.json").read_text())
    assert card["stretches"]["documents"] >= 20


@pytest.mark.slow
@CLUSTER
def test_a_cluster(source: Path) -> None:
    assert made(source, "one", "--processes", "1") == made(source, "ray", "--engine", "ray")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is here")
def test_what_is_missing_is_named(source: Path) -> None:
    command = [sys.executable, str(source.with_name("command.py")), "prepare", "--sources", str(source), "--quiet"]
    command += ["--output", "run", "--engine", "ray"]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"pip install 'tutelage[distributed]'" in done.stderr
