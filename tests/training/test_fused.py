"""The output layer by Liger's kernel: the same values and gradients as in plain torch."""

import pytest
import torch
from interpreted import kernels_here, needs_liger

from tutelage.training import fused

pytestmark = [needs_liger, pytest.mark.both]
WHERE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_here(monkeypatch)


def parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    states, weight, bias = (
        torch.randn(*shape, generator=generator).to(WHERE).requires_grad_() for shape in ((37, 8), (61, 8), (61,))
    )
    return states, weight, bias, torch.randint(0, 61, (37,), generator=generator).to(WHERE)


def plain(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, cap: float | None) -> torch.Tensor:
    logits = torch.nn.functional.linear(states.double(), weight.double(), None if bias is None else bias.double())
    return torch.log_softmax(logits if cap is None else cap * torch.tanh(logits / cap), -1)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("even", [False, True])
def test_equal_to_log_softmax_over_several_chunks(
    cap: float | None, biased: bool, alike: bool, even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where tokens that were said to weigh alike do not."""
    monkeypatch.setattr(fused, "_budget", lambda *_: 1)  # 37 positions, eight at a time
    states, weight, bias, targets = parts()
    given = bias if biased else None
    chosen, likeliest = fused.Chosen.apply(states, weight, given, targets, cap, True, alike)
    expected = plain(states, weight, given, cap)
    picked = expected[range(37), targets]
    assert chosen.dtype == torch.float32
    assert (chosen - picked).abs().max() < 1e-5
    assert torch.equal(likeliest.bool(), expected.argmax(-1) == targets)

    upstream = torch.randn(37, generator=torch.Generator().manual_seed(2)).to(WHERE)
    upstream = upstream[:1].expand(37) if even else upstream
    over = [states, weight, *([bias] if biased else [])]
    theirs = torch.autograd.grad((picked * upstream).sum(), over)
    for again in (True, False):  # a second backward pass through the same graph gives the same
        ours = torch.autograd.grad((chosen * upstream).sum(), over, retain_graph=again)
        for one, two in zip(ours, theirs, strict=True):
            assert (one - two).norm() < 1e-5 * two.norm()


@pytest.mark.parametrize("alike", [False, True])
def test_what_is_frozen_gets_no_gradient(alike: bool) -> None:
    states, weight, bias, targets = parts()
    fused.Chosen.apply(states, weight.detach(), bias.detach(), targets, None, True, alike)[0].sum().backward()
    expected = torch.autograd.grad(plain(states, weight, bias, None)[range(37), targets].sum(), states)[0]
    assert states.grad is not None
    assert (states.grad - expected).norm() < 1e-5 * expected.norm()
    assert weight.grad is None


def test_half_precision() -> None:
    states, weight, _, targets = parts()
    low = [value.detach().bfloat16().requires_grad_() for value in (states, weight)]
    chosen, _ = fused.Chosen.apply(*low, None, targets, None, True, True)
    expected = plain(low[0], low[1], None, None)[range(37), targets]
    assert chosen.dtype == torch.float32
    assert (chosen - expected).abs().max() < 0.1
    for ours, theirs in zip(
        torch.autograd.grad(chosen.sum(), low), torch.autograd.grad(expected.sum(), low), strict=True
    ):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs.float()).norm() < 0.03 * theirs.float().norm()


def test_what_it_serves() -> None:
    states = torch.ones(3, 8)
    assert fused.serves(states, (1.0, None, 1.0))
    assert fused.serves(states, (1.0, 30.0, 1.0))
    assert not fused.serves(states, (1.0, None, 0.7))
    assert not fused.serves(states, (0.5, None, 1.0))
    assert not fused.serves(states[:0], (1.0, None, 1.0))
    assert not fused.serves(states.double(), (1.0, None, 1.0))


@pytest.mark.parametrize(
    ("count", "vocabulary", "width"),
    [(16_384, 151_936, 896), (2048, 8192, 384), (100, 300, 64), (50_000, 32_000, 4096)],
)
def test_logits_keep_to_their_room(count: int, vocabulary: int, width: int) -> None:
    """As the kernel reckons: the positions over the share of the vocabulary, up to a power of two."""
    states, weight = (
        torch.empty(count, width, device="meta", dtype=torch.bfloat16),
        torch.empty(vocabulary, width, device="meta"),
    )
    parts = -(-vocabulary // (fused._budget(states, weight) * width))
    rows = min(count, 1 << (-(-count // parts) - 1).bit_length())
    assert rows * vocabulary * 2 <= max(fused.ROOM, 2 * count * width)
