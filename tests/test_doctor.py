"""The doctor asks torch in child processes, and says in a line what each found."""

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tutelage import doctor


def child(code: int, out: str = "", err: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, out, err)


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    from tutelage.cli import main

    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line[6:16].strip(): line for line in lines}
    assert {"system", "Python", "cores", "memory", "disk", "torch", "bf16", "speed", "dev"} <= found.keys()
    assert found["torch"].startswith("ok")
    assert "GFLOP/s with 1 thread" in found["speed"]
    assert all(line[:4] in ("ok  ", "warn", "bad ") for line in lines)


def test_a_processor_that_dies_of_bf16_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "BF16", f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})")
    found = doctor._bf16()
    assert (found.mark, found.found) == ("warn", "dies of signal 4 here; float32 is used")


def test_bf16_without_amx_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys; sys.exit(0 if os.environ.get('ONEDNN_MAX_CPU_ISA') else 1)"
    monkeypatch.setattr(doctor, "BF16", code)
    assert "fails here, works with ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16" in doctor._bf16().found


def test_a_missing_torch_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TORCH", "import no_such_torch")
    lines = [str(finding) for finding in doctor.examine()]
    (torch,) = [line for line in lines if line[6:].startswith("torch")]
    assert torch.startswith("bad")
    assert "No module named 'no_such_torch': pip install" in torch
    assert not any(line[6:].startswith(("bf16", "speed")) for line in lines)


def test_a_wrong_wish_for_kernels_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_KERNELS", "fast")
    found, _ = doctor._torch()
    assert (found.mark, found.found) == ("bad", "TUTELAGE_KERNELS=fast: say torch, liger or onednn, or leave it out")


def test_threads_that_do_not_help_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_child", lambda *_, **__: child(0, '{"1": 100.0, "4": 105.0}'))
    assert doctor._speed(4).mark == "warn"
    monkeypatch.setattr(doctor, "_child", lambda *_, **__: child(0, '{"1": 100.0, "4": 390.0}'))
    assert str(doctor._speed(4)) == "ok    speed      100 GFLOP/s with 1 thread, 390 GFLOP/s with 4 threads"
    monkeypatch.setattr(doctor, "_child", lambda *_, **__: child(-4))
    assert doctor._speed(4).mark == "bad"


def test_little_disk_and_memory_are_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=doctor.GIB))
    assert doctor._disk(tmp_path).mark == "warn"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=doctor.GIB, total=4 * doctor.GIB))
    assert str(doctor._memory()).startswith("warn  memory     1.0 GiB free of 4.0")


def test_extras_are_those_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=2", 'pytest>=9; extra == "dev"', "nor-such[all]; extra == 'far'", 'no-such>=1 ; extra == "far"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: wanted)
    assert [str(finding)[6:] for finding in doctor._extras()] == [
        "dev        here: pytest",
        "far        optional, lacks nor-such, no-such: pip install 'tutelage[far]'",
    ]
