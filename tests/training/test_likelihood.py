"""The one function that gives log-probabilities: equal to a plain log-softmax, in values and in gradients."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

from tutelage.errors import ModelError, SelfCheckError
from tutelage.model import checkpoint, forward
from tutelage.model.chat import Chat
from tutelage.records import Comparison
from tutelage.training import likelihood
from tutelage.training.batches import flat
from tutelage.training.likelihood import bits_per_byte, document_end, reward_accuracy, scores, self_check

SCALINGS = [(1.0, None, 1.0), (1.0, None, 0.7), (0.5, None, 1.3), (1.0, 2.0, 1.0), (1.5, 2.0, 0.6)]
"""Factor, soft cap, temperature."""


def parts(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    states, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in ((37, 6), (23, 6), (23,))
    )
    return states, weight, bias, torch.randint(0, 23, (37,), generator=generator)


def plain(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scaling: tuple[float, float | None, float]
) -> torch.Tensor:
    scale, cap, temperature = scaling
    logits = states @ weight.T * scale if bias is None else (states @ weight.T + bias) * scale
    return torch.log_softmax((logits if cap is None else cap * torch.tanh(logits / cap)) / temperature, -1)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("biased", [False, True])
def test_equal_to_log_softmax_over_several_chunks(
    monkeypatch: pytest.MonkeyPatch, scaling: tuple[float, float | None, float], biased: bool
) -> None:
    monkeypatch.setattr(likelihood, "CHUNK", 16 * 23)
    assert [len(range(37)[rows]) for rows in likelihood._chunks(37, 23)] == [16, 16, 5]
    states, weight, bias, targets = parts()
    given = bias if biased else None
    chosen, entropy, likeliest = likelihood._Chosen.apply(states, weight, given, targets, scaling)
    expected = plain(states, weight, given, scaling)
    picked = expected[range(37), targets]
    assert (chosen - picked).abs().max() < 1e-12
    assert (entropy + (expected.exp() * expected).sum(-1)).abs().max() < 1e-12
    assert torch.equal(likeliest.bool(), expected.argmax(-1) == targets)
    assert 0 < likeliest.sum() < 37

    upstream = torch.randn(37, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    over = [states, weight, *([bias] if biased else [])]
    ours = torch.autograd.grad((chosen * upstream).sum(), over)
    theirs = torch.autograd.grad((picked * upstream).sum(), over)
    for one, two in zip(ours, theirs, strict=True):
        assert (one - two).abs().max() < 1e-12


@pytest.mark.parametrize("scaling", SCALINGS)
def test_gradients_by_finite_differences(scaling: tuple[float, float | None, float]) -> None:
    states, weight, bias, targets = parts()
    small = states.detach()[:5].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, w, b: likelihood._Chosen.apply(s, w, b, targets[:5], scaling)[0], (small, weight, bias), eps=1e-6
    )


def test_what_is_frozen_gets_no_gradient() -> None:
    states, weight, bias, targets = parts()
    found = likelihood._Chosen.apply(states, weight.detach(), bias.detach(), targets, (1.0, None, 1.0))[0]
    found.sum().backward()
    assert states.grad is not None
    assert weight.grad is None


def test_half_precision_is_summed_in_single() -> None:
    states, weight, _, targets = parts(torch.float32)
    found = likelihood._Chosen.apply(states.bfloat16(), weight.bfloat16(), None, targets, (1.0, None, 1.0))[0]
    assert found.dtype == torch.float32
    expected = plain(states.bfloat16().float(), weight.bfloat16().float(), None, (1.0, None, 1.0))
    assert (found - expected[range(37), targets]).abs().max() < 0.05


def test_the_temperature_divides_the_logits() -> None:
    model = tiny.make_model("gemma2")
    batch = flat([tiny.example([9, 8], [30, 31, 6], [40, 6])])
    with torch.no_grad():
        found = likelihood.likelihoods(model, batch, 0.5).chosen
        logits = model(
            input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False, layout=batch.layout
        ).logits[0]
    expected = torch.log_softmax(logits / 0.5, -1)[batch.sources, batch.targets]
    assert (found - expected).abs().max() < 1e-5


def test_the_self_check_passes_a_sound_model() -> None:
    for architecture in tiny.ARCHITECTURES:
        self_check(tiny.make_model(architecture), flat([tiny.example([9, 8], [30, 6], [40, 6])]))


def test_the_self_check_finds_dropout() -> None:
    batch = flat([tiny.example([9, 8], [30, 31, 32, 6], [40, 6])])
    with pytest.raises(SelfCheckError, match="self-check: log-probabilities differ"):
        self_check(tiny.make_model("gpt2").train(), batch)


def test_the_self_check_finds_shifted_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = flat([tiny.example([9, 8], [30, 31, 32, 6])])
    real = forward.hidden_states
    monkeypatch.setattr(forward, "hidden_states", lambda *given: real(*given).roll(1, 0))
    with pytest.raises(SelfCheckError, match="self-check"):
        self_check(tiny.make_model("llama"), batch)


def test_the_self_check_finds_a_head_that_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "head_scaling", lambda _: (1.0, None))  # as if the cap were not known
    with pytest.raises(SelfCheckError, match="its head scales its logits in a way that is not handled"):
        self_check(tiny.make_model("gemma2"), flat([tiny.example([9, 8], [30, 31, 32, 6])]))


def test_the_self_check_finds_damaged_weights() -> None:
    model = tiny.make_model("llama")
    model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(SelfCheckError, match="not finite: the model's weights are damaged"):
        self_check(model, flat([tiny.example([9, 8], [30, 6])]))


def test_a_score_stands_on_the_last_token_of_its_branch(model_folder: Path) -> None:
    scorer, _ = checkpoint.load_scorer(model_folder, new_head=True)
    torch.manual_seed(1)
    torch.nn.init.normal_(scorer.score.weight)  # pyright: ignore
    with torch.no_grad():
        together = scores(scorer, flat([tiny.example([9, 8], [30, 31, 6], [40, 6]), tiny.example([7], [6])]))
        for place, ids in enumerate(([9, 8, 30, 31, 6], [9, 8, 40, 6], [7, 6])):
            row = flat([tiny.example([], ids)])
            alone = scorer.score(likelihood.hidden_states(scorer, row))[-1, 0]  # pyright: ignore
            assert abs(float(together[place] - alone)) < 1e-5


def test_bits_per_byte_by_hand(model_folder: Path) -> None:
    texts = ["the cat sat", "你好 on the mat, over more than one piece"]
    model, chat = checkpoint.load(model_folder)
    nats = 0.0
    for text in texts:
        ids = [tiny.END_OF_TEXT, *chat.text(text)]
        # A piece of 8 tokens predicts 7, and the next begins with its last token.
        for start in range(0, len(ids) - 1, 7):
            piece = ids[start : start + 8]
            with torch.no_grad():
                nats -= float(tiny.plain_log_probabilities(tiny.eager(model), piece, 1).sum())
    count = sum(len(text.encode()) for text in texts)
    assert count == 54
    assert bits_per_byte(model_folder, texts, 8) == pytest.approx(nats / math.log(2) / count, abs=1e-5)


def test_a_document_ends_with_the_end_of_text_or_else_of_a_turn() -> None:
    assert document_end(Chat(tiny.make_tokenizer(), "here")) == tiny.END_OF_TEXT
    marks = ["<|im_pad|>", "<|im_start|>", "<|im_end|>"]
    other = Chat(tiny.make_tokenizer(template=tiny.CHATML, special=marks, end="<|im_end|>"), "here")
    assert document_end(other) == 2


def test_reward_accuracy_counts_pairs(monkeypatch: pytest.MonkeyPatch, tokenizer_folder: Path) -> None:
    chat = Chat.load(tokenizer_folder)
    lengths: Any = lambda _, batch: torch.tensor([float(end) for end in batch.ends.diff(prepend=torch.tensor([0]))])  # noqa: E731
    monkeypatch.setattr(checkpoint, "load_scorer", lambda _: (SimpleNamespace(device=torch.device("cpu")), chat))
    monkeypatch.setattr(likelihood, "scores", lengths)
    comparison = Comparison(
        id="a", prompt=(tiny.user("x"),), responses=("a" * 40, "b" * 5, "c" * 5), ranks=(1, 2, 2), judge="rule"
    )
    # Longest first is right twice; the tie is left out; in the second, equal scores count as wrong.
    other = Comparison(id="b", prompt=(tiny.user("x"),), responses=("q" * 9, "x" * 60), ranks=(2, 1), judge="rule")
    assert reward_accuracy(Path("x"), [comparison]) == (2, 2)
    assert reward_accuracy(Path("x"), [comparison, other], length=50) == (2, 2)
    assert reward_accuracy(Path("x"), [comparison, other]) == (3, 3)
    monkeypatch.setattr(likelihood, "scores", lambda _, batch: torch.zeros(batch.branches))
    assert reward_accuracy(Path("x"), [comparison]) == (0, 2)


def test_a_chat_model_is_no_reward_model(model_folder: Path) -> None:
    with pytest.raises(ModelError, match="not a reward model: it has no score head"):
        reward_accuracy(model_folder, tiny.comparisons(2))
