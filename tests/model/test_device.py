import pytest
import torch

from tutelage.errors import SettingsError
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


def test_bf16_is_refused_where_it_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "probe", lambda: False)
    with pytest.raises(
        SettingsError, match=r"^bf16: this processor stops at a matrix product in bfloat16: leave it out$"
    ):
        device.prepare(1, bf16=True)
    device.prepare(1)
    assert device.exact()


def test_bf16_is_for_matrix_products_and_ends_with_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "probe", lambda: True)
    device.prepare(1, bf16=True)
    assert not device.exact()
    assert device.describe().endswith("bf16")
    one = torch.ones(2, 2, dtype=torch.float32)
    with device.half():
        assert torch.is_autocast_enabled("cpu")
        assert (one + one).dtype == torch.float32
    device.prepare(1)
    with device.half():
        assert not torch.is_autocast_enabled("cpu")
