import importlib.util
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from tutelage.errors import SettingsError
from tutelage.model import device
from tutelage.training.optimizer import Learning


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


def test_nothing_adds_up_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a warning is enough, torch's attention on a card has no order."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device.prepare(1)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.prepare(1)
    assert torch.are_deterministic_algorithms_enabled()


def test_rounded_numbers_are_apart_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    device.prepare(1)
    ours, theirs = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 2.0])
    assert device.apart(ours, theirs) == 2.0
    monkeypatch.setattr(device, "exact", lambda: False)
    assert device.apart(ours, theirs) == 0.5
    assert not device.apart(torch.tensor([1.0, torch.nan]), ours[:2]) < 1e9


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


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if there were a card, and Liger's kernels."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    device.liger.cache_clear()
    yield monkeypatch
    device.liger.cache_clear()


@pytest.mark.parametrize(
    ("gigabytes", "tokens"), [(8, 2048), (16, 2048), (24, 4096), (48, 8192), (85, 16_384), (192, 16_384)]
)
def test_rows_are_as_long_as_the_card_is_large(gigabytes: int, tokens: int, card: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(total_memory=gigabytes * 10**9)
    card.setattr(torch.cuda, "get_device_properties", lambda _: found)
    assert device.row_tokens() == Learning().max_batch_tokens == tokens
    assert Learning(max_batch_tokens=100).max_batch_tokens == 100
    assert device.cache_bytes() == gigabytes * 10**9 // 16
    card.setattr(torch.cuda, "is_available", lambda: False)
    assert device.row_tokens() == Learning().max_batch_tokens == 2048
    assert device.cache_bytes() == 1 << 29


def test_kernels_are_used_where_they_are(card: pytest.MonkeyPatch) -> None:
    assert device.liger()
    assert device.describe() == "a card, bf16, Liger kernels"
    card.setattr(torch.cuda, "is_available", lambda: False)
    device.liger.cache_clear()
    assert not device.liger()
    card.setattr(torch.cuda, "is_available", lambda: True)
    card.setattr(importlib.util, "find_spec", lambda _: None)
    device.liger.cache_clear()
    assert not device.liger()


def test_kernels_are_left_out_when_asked_to(card: pytest.MonkeyPatch) -> None:
    card.setenv("TUTELAGE_KERNELS", "torch")
    assert not device.liger()
    assert device.describe() == "a card, bf16"


def test_kernels_that_cannot_be_had_are_refused(card: pytest.MonkeyPatch) -> None:
    card.setenv("TUTELAGE_KERNELS", "fast")
    with pytest.raises(SettingsError, match="say torch, liger or onednn"):
        device.liger()
    card.setenv("TUTELAGE_KERNELS", "liger")
    assert device.liger()
    card.setattr(importlib.util, "find_spec", lambda _: None)
    device.liger.cache_clear()
    with pytest.raises(SettingsError, match=r"tutelage\[cuda\]"):
        device.liger()


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A CPU of AMD's, on which oneDNN is right."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_onednn_is_right", lambda: True)
    monkeypatch.setattr(device, "amd", lambda: True)
    device.onednn.cache_clear()
    yield monkeypatch
    device.onednn.cache_clear()


def test_onednn_is_for_amd(processor: pytest.MonkeyPatch) -> None:
    assert device.onednn()
    assert device.describe().endswith(", oneDNN")
    processor.setattr(device, "amd", lambda: False)
    device.onednn.cache_clear()
    assert not device.onednn()
    processor.setenv("TUTELAGE_KERNELS", "onednn")
    device.onednn.cache_clear()
    assert device.onednn()
    processor.setenv("TUTELAGE_KERNELS", "torch")
    device.onednn.cache_clear()
    assert not device.onednn()


def test_onednn_that_is_wrong_is_not_taken(processor: pytest.MonkeyPatch) -> None:
    processor.setattr(device, "_onednn_is_right", lambda: False)
    assert not device.onednn()
    processor.setenv("TUTELAGE_KERNELS", "onednn")
    device.onednn.cache_clear()
    with pytest.raises(SettingsError, match="gives other numbers here"):
        device.onednn()


def test_what_is_right_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(states: torch.Tensor, weight: torch.Tensor, *_: object) -> torch.Tensor:
        return states.bfloat16().float() @ weight.bfloat16().float().T

    monkeypatch.setattr(device, "by_onednn", rounded)
    assert not device._onednn_is_right()
    monkeypatch.setattr(device, "by_onednn", torch.nn.functional.linear)
    assert device._onednn_is_right()

    def lacking(*_: object) -> torch.Tensor:
        raise AttributeError

    monkeypatch.setattr(device, "by_onednn", lacking)
    assert not device._onednn_is_right()
