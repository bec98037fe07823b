"""`doctor`: what this machine can do, what is missing and how to get it.

torch is asked in child processes: a processor may die of an instruction that it advertises, and the doctor should not.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from tutelage.sentences import counted

GIB = 1024**3
NAME = re.compile(r"[\w.-]+")
EXTRA = re.compile(r"extra == [\"'](.+?)[\"']")
MARKS = {"ok": "ok  ", "warn": "warn", "bad": "bad "}

TORCH = """
import json, torch
from tutelage.model import device
print(json.dumps({"version": torch.__version__, "device": device.describe(), "threads": device.threads(),
                  "cuda": torch.cuda.is_available()}))
"""
BF16 = "import torch; a = torch.ones(64, 64, dtype=torch.bfloat16); assert float((a @ a)[0, 0]) == 64"
SPEED = """
import json, sys, time, torch
found = {}
for threads in (1, int(sys.argv[1])):
    torch.set_num_threads(threads)
    a = torch.rand(1024, 1024)
    a @ a
    rounds, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.4:
        a @ a
        rounds += 1
    found[threads] = rounds * 2 * 1024**3 / (time.perf_counter() - began) / 1e9
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    mark: Literal["ok", "warn", "bad"]
    what: str
    found: str

    def __str__(self) -> str:
        return f"{MARKS[self.mark]}  {self.what:<10} {self.found}"


def examine(folder: Path = Path()) -> Iterator[Finding]:
    """The findings, one by one; folder: where runs will be written."""
    yield Finding("ok", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    enough = sys.version_info >= (3, 11)
    yield Finding("ok" if enough else "bad", "Python", platform.python_version() + ("" if enough else ": needs 3.11"))
    yield _cores()
    yield _memory()
    yield _disk(folder)
    torch, answer = _torch()
    yield torch
    if answer:
        yield _bf16()
        yield _speed(int(answer["threads"]))
    yield from _extras()


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0))
    return Finding("ok", "cores", f"{usable} usable of {os.cpu_count()}")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    if memory.available < 3 * GIB:
        return Finding("warn", "memory", f"{text}: courses/first.yaml wants about 4 GiB")
    return Finding("ok", "memory", text)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free in {folder.absolute()}"
    if free < 2 * GIB:
        return Finding("warn", "disk", f"{text}: a course of a small model takes about 2 GiB")
    return Finding("ok", "disk", text)


def _torch() -> tuple[Finding, dict[str, str] | None]:
    child = _child(TORCH)
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        _, asked, why = last.partition("SettingsError: ")
        if asked:
            return Finding("bad", "torch", why), None
        return Finding(
            "bad", "torch", f"cannot be imported: {last}: pip install -r torch.txt, then pip install -e ."
        ), None
    answer = json.loads(child.stdout.strip().splitlines()[-1])
    hint = "" if answer["cuda"] else "; no CUDA device, which small models do not need"
    return Finding("ok", "torch", f"{answer['version']}, {answer['device']}{hint}"), answer


def _bf16() -> Finding:
    """A child tries it, for it may die: some virtual machines advertise AMX and then lack it."""
    child = _child(BF16)
    if child.returncode == 0:
        return Finding("ok", "bf16", "a matrix product in bf16 works; training on a CPU is in float32 all the same")
    why = f"dies of signal {-child.returncode}" if child.returncode < 0 else "fails"
    lesser = _child(BF16, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"})
    if lesser.returncode == 0:
        return Finding("warn", "bf16", f"{why} here, works with ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16; float32 is used")
    return Finding("warn", "bf16", f"{why} here; float32 is used")


def _speed(threads: int) -> Finding:
    child = _child(SPEED, arguments=[str(threads)])
    if child.returncode != 0:
        return Finding("bad", "speed", "a matrix product in float32 fails: the torch here does not fit this processor")
    found = {int(n): float(speed) for n, speed in json.loads(child.stdout).items()}
    text = ", ".join(f"{speed:.0f} GFLOP/s with {counted(n, 'thread')}" for n, speed in found.items())
    if threads > 1 and found[threads] < 1.2 * found[1]:
        return Finding("warn", "speed", f"{text}: more threads do not help: are other programs busy?")
    return Finding("ok", "speed", text)


def _extras() -> Iterator[Finding]:
    """The optional sets of packages that the package's own metadata offer."""
    offered: dict[str, list[str]] = {}
    for line in metadata.requires("tutelage") or ():
        package, _, condition = line.partition(";")
        extra = EXTRA.search(condition)
        if extra:
            offered.setdefault(extra[1], []).append(NAME.match(package.strip())[0])  # pyright: ignore
    for extra, packages in sorted(offered.items()):
        missing = [package for package in packages if not _installed(package)]
        if missing:
            yield Finding("ok", extra, f"optional, lacks {', '.join(missing)}: pip install 'tutelage[{extra}]'")
        else:
            yield Finding("ok", extra, f"here: {', '.join(packages)}")


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _child(
    code: str, environment: dict[str, str] | None = None, arguments: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *(arguments or [])],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
