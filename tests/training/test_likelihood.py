"""The one function that gives log-probabilities: equal to a plain log-softmax, in values and in gradients."""

import math
import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


def chosen_of(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor,
    scaling: tuple[float, float | None, float] = (1.0, None, 1.0), alike: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    learning = torch.is_grad_enabled()
    chosen, likeliest, entropy = likelihood._Chosen.apply(states, weight, bias, targets, scaling, learning, alike, True)
    return chosen, entropy, likeliest


def plain(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scaling: tuple[float, float | None, float]
) -> torch.Tensor:
    scale, cap, temperature = scaling
    logits = states @ weight.T * scale if bias is None else (states @ weight.T + bias) * scale
    return torch.log_softmax((logits if cap is None else cap * torch.tanh(logits / cap)) / temperature, -1)


@pytest.fixture
def chunks_of_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "CHUNK", {"cpu": 16 * 23})
    monkeypatch.setattr(likelihood, "ROWS", 16)


class Watch(TorchDispatchMode):
    """The operations that are called, and the most bytes that tensors made by them took at once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.live: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.calls[func.__name__.split(".")[0]] += 1
        known = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(found):
            storage = one.untyped_storage() if isinstance(one, torch.Tensor) else None
            if storage is not None and storage._cdata not in known | self.live.keys():
                self.live[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.live.values()))
        return found


@pytest.mark.usefixtures("chunks_of_16")
def test_chunks_cover_every_token_once() -> None:
    states, weight, _, _ = parts()
    assert [len(range(37)[rows]) for rows in likelihood._chunks(states, weight)] == [16, 16, 5]
    assert likelihood._chunks(states[:0], weight) == []


@pytest.mark.usefixtures("chunks_of_16")
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("even", [False, True])
def test_equal_to_log_softmax_over_several_chunks(
    scaling: tuple[float, float | None, float], biased: bool, alike: bool, even: bool
) -> None:
    """Also where tokens that were said to weigh alike do not."""
    states, weight, bias, targets = parts()
    given = bias if biased else None
    chosen, entropy, likeliest = chosen_of(states, weight, given, targets, scaling, alike)
    expected = plain(states, weight, given, scaling)
    picked = expected[range(37), targets]
    assert (chosen - picked).abs().max() < 1e-12
    assert (entropy + (expected.exp() * expected).sum(-1)).abs().max() < 1e-12
    assert torch.equal(likeliest.bool(), expected.argmax(-1) == targets)
    assert 0 < likeliest.sum() < 37

    upstream = torch.randn(37, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    upstream = upstream[:1].expand(37) if even else upstream
    over = [states, weight, *([bias] if biased else [])]
    theirs = torch.autograd.grad((picked * upstream).sum(), over)
    for again in (True, False):  # a second backward pass through the same graph gives the same
        ours = torch.autograd.grad((chosen * upstream).sum(), over, retain_graph=again)
        for one, two in zip(ours, theirs, strict=True):
            assert (one - two).abs().max() < 1e-12


@pytest.mark.parametrize("scaling", SCALINGS)
def test_gradients_by_finite_differences(scaling: tuple[float, float | None, float]) -> None:
    states, weight, bias, targets = parts()
    small = states.detach()[:5].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, w, b: chosen_of(s, w, b, targets[:5], scaling)[0], (small, weight, bias), eps=1e-6
    )


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2", "gpt2", "llama"])
@pytest.mark.parametrize("alike", [False, True])
def test_gradients_of_a_whole_model(architecture: str, alike: bool) -> None:
    """Tied embeddings get the gradient of both their uses, capped logits theirs through the cap."""
    model = tiny.make_model(architecture).double()
    batch = flat([tiny.example([9, 8], [30, 31, 6], [40, 6]), tiny.example([7], [30, 6])])
    ours = tiny.gradients(-likelihood.token_log_probabilities(model, batch, alike=alike).mean(), model)
    logits = model(
        input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False, layout=batch.layout
    ).logits[0]
    theirs = tiny.gradients(F.cross_entropy(logits[batch.sources], batch.targets), model)
    assert tiny.worst(ours, theirs) < 1e-12
    assert ("lm_head.weight" in ours) == (architecture == "llama")


@pytest.mark.parametrize("alike", [False, True])
def test_what_is_frozen_gets_no_gradient(alike: bool) -> None:
    states, weight, bias, targets = parts()
    found = chosen_of(states, weight.detach(), bias.detach(), targets, alike=alike)[0]
    found.sum().backward()
    expected = torch.autograd.grad(plain(states, weight, bias, (1.0, None, 1.0))[range(37), targets].sum(), states)[0]
    assert states.grad is not None
    assert (states.grad - expected).abs().max() < 1e-12
    assert weight.grad is None
    states.requires_grad_(False)
    chosen_of(states, weight, None, targets, alike=alike)[0].sum().backward()
    assert weight.grad is not None  # a head that is trained alone


def test_a_row_without_trained_tokens() -> None:
    states, weight, bias, targets = parts()
    for alike in (False, True):
        chosen = chosen_of(states[:0], weight, bias, targets[:0], alike=alike)[0]
        for gradient in torch.autograd.grad(chosen.sum(), (states, weight, bias)):
            assert gradient.count_nonzero() == 0


@pytest.mark.usefixtures("chunks_of_16")
@pytest.mark.parametrize(
    ("learning", "frozen", "alike", "products"),
    [(False, False, False, 3), (True, True, False, 6), (True, False, True, 9), (True, False, False, 11)],
)
def test_no_matrix_product_is_made_for_nothing(learning: bool, frozen: bool, alike: bool, products: int) -> None:
    """In three chunks, logits, gradients to the states, gradients to the weights. Logits are made again only where
    tokens weigh differently, and not the last ones."""
    states, weight, _, targets = parts()
    weight = weight.detach() if frozen else weight
    with Watch() as watch, torch.set_grad_enabled(learning):
        chosen = chosen_of(states, weight, None, targets, alike=alike)[0]
        if learning:
            chosen.sum().backward()
    assert watch.calls["mm"] + watch.calls["addmm_"] == products


@pytest.mark.parametrize("cap", [None, 30.0])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("vocabulary", [500, 5000])
def test_memory_does_not_grow_with_tokens_times_vocabulary(
    monkeypatch: pytest.MonkeyPatch, cap: float | None, alike: bool, vocabulary: int
) -> None:
    monkeypatch.setattr(likelihood, "CHUNK", {"cpu": 200_000})
    weight = torch.randn(vocabulary, 2, requires_grad=True)
    most: list[int] = []
    limit = likelihood.held(vocabulary, weight.device) * (1 if cap is None else 4 / 3)
    for count in (2000, 4000):
        states, targets = torch.randn(count, 2, requires_grad=True), torch.randint(0, vocabulary, (count,))
        with Watch() as watch:
            chosen_of(states, weight, None, targets, (1.0, cap, 1.0), alike)[0].sum().backward()
        most.append(watch.most)
        assert 0.5 * limit < watch.most < limit + 4 * 2 * vocabulary + 40 * count
    assert most[1] - most[0] < 40 * 2000


def test_half_precision_is_summed_in_single() -> None:
    states, weight, _, targets = parts(torch.float32)
    found = chosen_of(states.bfloat16(), weight.bfloat16(), None, targets)[0]
    assert found.dtype == torch.float32
    expected = plain(states.bfloat16().float(), weight.bfloat16().float(), None, (1.0, None, 1.0))
    assert (found - expected[range(37), targets]).abs().max() < 0.05


@pytest.mark.parametrize("alike", [False, True])
def test_half_precision_learns_from_tokens_that_are_all_but_certain(alike: bool) -> None:
    """One minus a probability near 1 is lost if the probability is rounded first."""
    states, weight = torch.eye(23).bfloat16().requires_grad_(), (10 * torch.eye(23)).bfloat16().requires_grad_()
    targets = torch.arange(23)
    chosen = chosen_of(states, weight, None, targets, alike=alike)[0]
    assert (chosen.exp() > 0.99).all()
    chosen.sum().backward()
    exact = [value.detach().double().requires_grad_() for value in (states, weight)]
    plain(exact[0], exact[1], None, (1.0, None, 1.0))[range(23), targets].sum().backward()
    for ours, theirs in zip((states, weight), exact, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad.double() - theirs.grad).norm() < 0.01 * theirs.grad.norm()


def test_a_large_vocabulary_in_single_precision() -> None:
    generator = torch.Generator().manual_seed(4)
    states, weight = torch.randn(8, 16, generator=generator) * 2, torch.randn(150_000, 16, generator=generator)
    targets = torch.randint(0, 150_000, (8,), generator=generator)
    with torch.no_grad():
        chosen, entropy, _ = chosen_of(states, weight, None, targets)
    expected = plain(states.double(), weight.double(), None, (1.0, None, 1.0))
    assert (chosen - expected[range(8), targets]).abs().max() < 2e-5
    assert (entropy + (expected.exp() * expected).sum(-1)).abs().max() < 2e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize(("kind", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_a_gpu_gives_the_same(alike: bool, kind: torch.dtype, limit: float) -> None:
    generator = torch.Generator().manual_seed(5)
    states, weight = torch.randn(300, 64, generator=generator), torch.randn(50_000, 64, generator=generator) / 4
    targets, upstream = torch.randint(0, 50_000, (300,), generator=generator), torch.rand(300, generator=generator)
    upstream = torch.ones(300) if alike else upstream
    here = [value.to(kind).double().requires_grad_() for value in (states, weight)]
    there = [value.to("cuda", kind).requires_grad_() for value in (states, weight)]
    expected = plain(here[0], here[1], None, (1.0, None, 1.0))[range(300), targets]
    found, entropy, _ = chosen_of(there[0], there[1], None, targets.cuda(), alike=alike)
    assert (found.cpu() - expected).abs().max() < 10 * limit
    assert bool(torch.isfinite(entropy).all())
    (expected * upstream).sum().backward()
    (found * upstream.cuda()).sum().backward()
    for ours, theirs in zip(there, here, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad.cpu().double() - theirs.grad).norm() < limit * theirs.grad.norm()


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
    with pytest.raises(SelfCheckError, match=r"self-check: log-probabilities differ by .*: dropout is on"):
        self_check(tiny.make_model("gpt2").train(), batch)


def test_the_self_check_looks_at_some_tokens_of_many() -> None:
    """Of them alone the model's own forward pass makes logits."""
    model, batch = tiny.make_model("llama"), flat([tiny.example([9], list(range(7, 207)))])
    shapes: list[tuple[int, ...]] = []
    model.register_forward_hook(lambda _model, _given, output: shapes.append(tuple(output.logits.shape)))
    self_check(model, batch)
    assert shapes == [(1, 50, 300)]


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
