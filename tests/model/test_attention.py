"""One row of trees is the same as each sequence by itself, in logits, losses and gradients."""

import inspect
import random
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AutoConfig, AutoModelForCausalLM

from tutelage.errors import ModelError
from tutelage.model import attention, device
from tutelage.model.attention import Cache, Layout, Tree
from tutelage.training.batches import Example, flat
from tutelage.training.likelihood import token_log_probabilities

ALL = list(tiny.ARCHITECTURES)
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
LAYOUT = Layout(
    (Tree(0, 7, (3, 9, 4)), Tree(23, 0, (12,)), Tree(35, 2, (4, 6)), Tree(47, 0, (3, 5)), Tree(55, 0, (1,)))
)


def examples() -> list[Example]:
    """Two prompts with several answers and two plain sequences, of mixed lengths, some longer than the windows."""
    rng = random.Random(1)
    return [
        tiny.example(tiny.draw(rng, 7), *(tiny.draw(rng, n) for n in (3, 9, 1))),
        tiny.example([], tiny.draw(rng, 12)),
        tiny.example(tiny.draw(rng, 2), *(tiny.draw(rng, n) for n in (4, 4))),
        tiny.example([], tiny.draw(rng, 3)),
    ]


def apart(found: list[Example]) -> list[Example]:
    """Every branch as a plain sequence of its own."""
    return [Example(one.prompt, [branch]) for one in found for branch in one.branches]


@pytest.mark.parametrize("architecture", ALL)
def test_a_tree_is_the_sequences_apart_and_transformers_own_forward(architecture: str) -> None:
    model = tiny.make_model(architecture)
    own = tiny.eager(model)
    found = examples()
    rng = random.Random(2)
    # Weights of their own for every token, so that no two errors can cancel.
    weights = [[rng.uniform(-1, 1) for t in b.trained if t] for e in found for b in e.branches]
    every = torch.tensor([w for ws in weights for w in ws])

    tree = token_log_probabilities(model, flat(found))
    row = token_log_probabilities(model, flat(apart(found)))
    sequences = [(e.prompt + b.ids, len(e.prompt) or 1) for e in found for b in e.branches]
    plain = torch.cat([tiny.plain_log_probabilities(own, ids, skip) for ids, skip in sequences]).float()

    assert len(plain) == len(every) == sum(len(b.ids) for e in found for b in e.branches) - 2
    assert (tree - plain).abs().max() < 1e-5
    assert (row - plain).abs().max() < 1e-5
    expected = tiny.gradients((plain * every).sum(), own)
    scale = max(float(g.abs().max()) for g in expected.values())
    assert scale > 0.1
    for loss in ((tree * every).sum(), (row * every).sum()):
        assert tiny.worst(tiny.gradients(loss, model), expected) < 1e-5 * max(1.0, scale)


@pytest.mark.parametrize("architecture", ALL)
def test_branches_and_trees_do_not_see_each_other(architecture: str) -> None:
    model = tiny.make_model(architecture)
    found = examples()
    before = flat(found)
    changed = examples()
    changed[0].branches[1].ids[:] = [8] * 9
    changed[1].branches[0].ids[:] = [9] * 12
    after = flat(changed)
    with torch.no_grad():
        one, two = (token_log_probabilities(model, batch) for batch in (before, after))
    touched = (before.branch == 1) | (before.branch == 3)
    assert torch.equal(one[~touched], two[~touched])
    assert (one[touched] - two[touched]).abs().min() > 0


def test_a_later_token_does_not_change_an_earlier_one() -> None:
    model = tiny.make_model("qwen3")
    rng = random.Random(3)
    ids = tiny.draw(rng, 20)
    with torch.no_grad():
        one = token_log_probabilities(model, flat([tiny.example([], ids)]))
        two = token_log_probabilities(model, flat([tiny.example([], [*ids[:12], *tiny.draw(rng, 8)])]))
    assert torch.equal(one[:11], two[:11])
    assert not torch.equal(one, two)


def test_a_window_hides_what_is_further_back() -> None:
    model = tiny.make_model("mistral", num_hidden_layers=1)
    rng = random.Random(4)
    ids = tiny.draw(rng, 14)
    far = [7 if ids[0] != 7 else 8, *ids[1:]]
    near = [*ids[:10], 7 if ids[10] != 7 else 8, *ids[11:]]
    with torch.no_grad():
        base, other, close = (
            token_log_probabilities(model, flat([tiny.example([], row)]))[-1] for row in (ids, far, near)
        )
    assert torch.equal(base, other)
    assert not torch.equal(base, close)


def test_the_layout_must_arrive() -> None:
    model = tiny.make_model("llama")
    with pytest.raises(ModelError, match="does not hand the layout on"):
        model(input_ids=torch.tensor([[7, 8]]), use_cache=False)


@pytest.mark.parametrize("architecture", ALL)
def test_every_tested_architecture_passes_the_check(architecture: str) -> None:
    model = tiny.make_model(architecture).train()
    attention.check(model)
    assert model.training
    assert model.config._attn_implementation == attention.NAME


def test_the_check_finds_attention_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.make_model("qwen3")
    real = attention._causal
    monkeypatch.setattr(attention, "_causal", lambda q, k, v, options: real(q, k, v, options) * 1.05)
    with pytest.raises(ModelError, match="its hidden states differ by"):
        attention.check(model)


def test_an_architecture_that_is_not_supported_is_refused() -> None:
    config = AutoConfig.for_model(
        "bloom", vocab_size=60, hidden_size=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=1
    )
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match="Bloom"):
        attention.check(model)


def test_attention_sinks_are_refused() -> None:
    one = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ModelError, match="attention sinks"):
        attention.attention(nn.Module(), one, one, one, None, layout=Layout((Tree(0, 0, (2,)),)), s_aux=torch.zeros(1))


def test_a_slot_moves_whole() -> None:
    cache = Cache(1, 3, 4)
    keys, values = cache.keys_values(0, torch.zeros(1, 2, 1, 5))
    keys[2], values[2], cache.lengths[2] = 3.0, 4.0, 2
    cache.move(2, 0)
    assert cache.lengths.tolist() == [2, 0, 2]
    assert keys[0, :, :2].eq(3).all()
    assert values[0, :, :2].eq(4).all()
    assert keys[0, :, 2:].eq(0).all()


def row_of_heads(heads: int, dtype: torch.dtype, device: str = "cpu") -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values for `LAYOUT`, two heads of keys, and a weight for every number that comes out."""
    torch.manual_seed(5)
    wide = [torch.randn(1, 56, n, 16, dtype=dtype, device=device).transpose(1, 2) for n in (heads, 2, 2)]
    return [x.requires_grad_() for x in wide], torch.randn(1, 56, heads, 16, dtype=dtype, device=device)


def out_and_slopes(made: list[Tensor], weight: Tensor, window: int | None) -> list[Tensor]:
    out = attention._by_layout(*made, LAYOUT, attention._Options(0.3, 0.0, window, None))
    (out * weight).sum().backward()
    slopes = [x.grad for x in made if x.grad is not None]
    for x in made:
        x.grad = None
    return [out.detach(), *slopes]


def kernel(*args: Any, **named: Any) -> Tensor:
    """What torch's kernel for mixed lengths gives, in plain words; called as the installed torch has it."""
    call = inspect.signature(varlen_attn).bind(*args, **named)
    call.apply_defaults()
    q, k, v, queries, keys, most_q, most_k = call.args
    left, right = call.kwargs["window_size"]
    groups = q.shape[1] // k.shape[1]
    assert call.kwargs["enable_gqa"] == (groups > 1)
    assert queries.dtype == keys.dtype == torch.int32
    assert most_q == int(queries.diff().max())
    assert most_k == int(keys.diff().max())
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    parts: list[Tensor] = []
    for (a, b), (c, d) in zip(queries.unfold(0, 2, 1).tolist(), keys.unfold(0, 2, 1).tolist(), strict=True):
        rows = torch.arange(b - a)[:, None] + (d - c) - (b - a)
        columns = torch.arange(d - c)[None]
        seen = (columns <= rows + right) & ((columns >= rows - left) | (left < 0))
        scores = torch.einsum("qhs,khs->hqk", q[a:b], k[c:d]) * call.kwargs["scale"]
        parts.append(torch.einsum("hqk,khs->qhs", scores.masked_fill(~seen, float("-inf")).softmax(-1), v[c:d]))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 1, 5, 11])
@pytest.mark.parametrize("heads", [2, 6])
def test_the_call_of_the_varlen_kernel_is_the_same_attention(
    heads: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, weight = row_of_heads(heads, torch.float64)
    expected = out_and_slopes(made, weight, window)
    monkeypatch.setattr(attention, "varlen_attn", kernel)
    monkeypatch.setattr(attention, "_varlen_serves", lambda *_: True)
    found = out_and_slopes(made, weight, window)
    assert len(found) == 4
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, expected, strict=True))


def test_the_varlen_kernel_serves_half_precision_on_cuda_alone() -> None:
    made, _ = row_of_heads(2, torch.bfloat16)
    assert not attention._varlen_serves(made[0], made[2], attention._Options(1.0, 0.0, None, None))


@pytest.mark.parametrize("window", [pytest.param(w, marks=ON_CUDA) for w in (None, 1, 5, 11)])
@pytest.mark.parametrize("heads", [2, 6])
def test_the_varlen_kernel_on_cuda(heads: int, window: int | None) -> None:
    made, weight = row_of_heads(heads, torch.bfloat16, "cuda")
    assert attention._varlen_serves(made[0], made[2], attention._Options(0.3, 0.0, window, None))
    found = out_and_slopes(made, weight, window)
    exact = [x.detach().float().requires_grad_() for x in made]
    expected = out_and_slopes(exact, weight.float(), window)
    for a, b in zip(found, expected, strict=True):
        assert (a.float() - b).norm() < 0.01 * b.norm()


@pytest.mark.parametrize("architecture", [pytest.param(name, marks=ON_CUDA) for name in ALL])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trees_on_cuda(architecture: str, dtype: torch.dtype) -> None:
    model = tiny.make_model(architecture)
    expected = token_log_probabilities(model, flat(examples()))
    slopes = tiny.gradients(expected.sum(), model)
    model.to(device="cuda", dtype=dtype)  # pyright: ignore
    attention.check(model)
    found = token_log_probabilities(model, flat(examples()).to(torch.device("cuda")))
    limit = 1e-3 if dtype == torch.float32 else 0.05
    assert (found.cpu() - expected).norm() < limit * expected.norm()
    for name, slope in tiny.gradients(found.sum(), model).items():
        assert (slope.cpu().float() - slopes[name]).norm() < 4 * limit * slopes[name].norm() + 1e-4, name


@pytest.mark.parametrize(("length", "kind"), [(256, torch.float32), (257, torch.bfloat16)])
def test_short_sequences_attend_in_single_where_that_is_faster(
    length: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == torch.bfloat16 and not device.probe():
        pytest.skip("this processor dies of products in bfloat16")
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, 2, length, 16, generator=generator) for _ in range(3))
    layout, options = Layout((Tree(0, 0, (length,)),)), attention._Options(0.3, 0.0, None, None)
    expected = attention._by_layout(query, key, value.bfloat16().float(), layout, options)
    seen: list[torch.dtype] = []
    inner = torch.nn.functional.scaled_dot_product_attention

    def watched(*given: torch.Tensor, **more: Any) -> torch.Tensor:
        found = inner(*given, **more)
        seen.append(found.dtype)
        return found

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    monkeypatch.setattr(device, "halved", lambda: True)
    monkeypatch.setattr(device, "amd", lambda: True)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention._by_layout(query, key, value.bfloat16(), layout, options)
    assert seen == [kind]
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.02
