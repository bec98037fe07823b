import pytest
import torch

from tutelage.model import device


def test_threads_are_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_THREADS", "3")
    assert device.threads() == 3
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("TUTELAGE_THREADS", nothing)
        assert device.threads() >= 1


def test_a_stage_begins_the_same_every_time() -> None:
    drawn: list[list[float]] = []
    for seed in (1, 1, 2):
        device.prepare(seed)
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.are_deterministic_algorithms_enabled()


def test_the_probe_survives_a_child_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    device.probe.cache_clear()
    monkeypatch.setattr(device, "PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert device.probe() is False
    device.probe.cache_clear()
    monkeypatch.setattr(device, "PROBE", "print(64.0)")
    assert device.probe() is True
    device.probe.cache_clear()


def test_the_device_is_described() -> None:
    assert ("float32" in device.describe()) != torch.cuda.is_available()
