"""Every architecture we call tested: separate rows, a padded batch, a packed row and trees give the same numbers.

Separate rows and the padded batch go through the architecture's own attention, the others through ours. Positions come
from `flat`. Faults are put in on purpose, to see that these tests and `attention.check` find them.
"""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tutelage.errors import ModelError
from tutelage.model import attention, checkpoint
from tutelage.training.batches import Batch, Example, flat
from tutelage.training.likelihood import token_log_probabilities

SHAPE = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.2,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
LOCAL = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1, "head_dim": 12, "attention_bias": True},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 5, "tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": EXPERTS,
    "mistral": {"sliding_window": 5},
    "mixtral": {"sliding_window": 5, **EXPERTS},
    "gemma2": {**LOCAL, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {**LOCAL, "query_pre_attn_scalar": 8},
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3": {"sliding_window": 5},
    "olmo2": {},
    "olmo3": LOCAL,
    "granite": {"attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 3.0},
    "smollm3": {"no_rope_layers": [1, 0]},
    "cohere2": {**LOCAL, "logit_scale": 0.5},
    "glm4": {},
    "starcoder2": {"sliding_window": 5},
}
"""Beside the usual: one key head for all, heads wider than the width has room for, biases, windows shorter than the
sequences in some layers or all, caps, learned positions, layers without positions, experts, scaled residuals."""

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mamba": ({}, "layers of kind linear_attention"),
    "jamba": ({"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}, "kind linear_attention"),
    "llama4_text": ({"attention_chunk_size": 4, **EXPERTS}, "layers of kind chunked_attention"),
    "gpt_oss": (EXPERTS, "it asks for attention sinks"),
    "bert": ({}, "its mask is neither causal nor"),
    "bloom": ({}, "of its 2 layers 0 attend by the interface"),
    "doge": ({}, "its mask is neither causal nor"),
}


def make(architecture: str, dtype: torch.dtype = torch.float64, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **{**SHAPE, **ARCHITECTURES.get(architecture, {}), **changes})
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention.NAME, experts_implementation="eager", dtype=dtype
    )
    return model.eval()


def examples() -> list[Example]:
    """Trees of three and two branches and a plain sequence; sequences shorter than the window, just longer, longer."""
    rng = random.Random(1)
    lengths = [(7, (3, 9, 1)), (0, (12,)), (2, (4, 2)), (0, (3,))]
    draw = [([rng.randrange(3, 120) for _ in range(p)], bs) for p, bs in lengths]
    return [tiny.example(p, *([rng.randrange(3, 120) for _ in range(b)] for b in bs)) for p, bs in draw]


def whole(found: list[Example]) -> list[list[int]]:
    """Each branch with its prompt."""
    return [one.prompt + branch.ids for one in found for branch in one.branches]


def separate(own: nn.Module, sequences: list[list[int]]) -> list[Tensor]:
    return [own(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in sequences]


def padded(own: nn.Module, sequences: list[list[int]]) -> list[Tensor]:
    longest = max(len(ids) for ids in sequences)
    rows = torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences])
    logits = own(input_ids=rows, attention_mask=mask, use_cache=False).logits
    return [row[: len(ids)] for row, ids in zip(logits, sequences, strict=True)]


def places(batch: Batch) -> list[list[int]]:
    """Where in the row each branch stands, with its prompt."""
    found: list[list[int]] = []
    for tree in batch.layout.trees:
        at = tree.start + tree.prompt
        for length in tree.branches:
            found.append([*range(tree.start, tree.start + tree.prompt), *range(at, at + length)])
            at += length
    return found


def one_row(model: nn.Module, batch: Batch) -> list[Tensor]:
    logits = model(
        input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False, layout=batch.layout
    ).logits[0]
    return [logits[rows] for rows in places(batch)]


def gradients(model: nn.Module, logits: list[Tensor]) -> dict[str, Tensor]:
    """Of a sum in which every log-probability of every token has a weight of its own, so that no errors cancel."""
    torch.manual_seed(3)
    weights = [torch.randn(len(rows), rows.shape[1], dtype=torch.float64) for rows in logits]
    every = [(w * torch.log_softmax(rows.double(), -1)).sum() for w, rows in zip(weights, logits, strict=True)]
    return tiny.gradients(torch.stack(every).sum(), model)


def furthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, as a share of the largest value."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(found, expected, strict=True)]
    return max(float((a - b).abs().max()) for a, b in pairs) / max(float(b.abs().max()) for _, b in pairs)


def assert_same(model: PreTrainedModel, shift: Callable[[Batch], Batch] = lambda batch: batch) -> None:
    """Trees and a packed row, against separate rows: logits, gradients of every parameter, log-probabilities.

    Norms and softmaxes are in float32 in most architectures, whatever the rest is in.
    """
    own, found = tiny.eager(model), examples()
    sequences = whole(found)
    expected = separate(own, sequences)
    slopes = gradients(own, expected)
    assert max(float(g.abs().max()) for g in slopes.values()) > 0.1
    tree = shift(flat(found))
    for batch in (tree, flat([tiny.example([], ids) for ids in sequences])):
        logits = one_row(model, batch)
        assert furthest(logits, expected) < 2e-6
        mine = gradients(model, logits)
        assert mine.keys() == slopes.keys()
        assert furthest(list(mine.values()), list(slopes.values())) < 3e-6
    plain = [torch.log_softmax(rows, -1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
             for rows, ids in zip(expected, sequences, strict=True)]  # fmt: skip
    starts = [max(1, len(one.prompt)) - 1 for one in found for _ in one.branches]
    learned = torch.cat([values[start:] for values, start in zip(plain, starts, strict=True)])
    assert (token_log_probabilities(model, tree) - learned).abs().max() < 2e-5


def test_these_are_the_architectures_that_errors_call_tested() -> None:
    assert set(ARCHITECTURES) == set(attention.TESTED)
    sequences = [len(ids) for ids in whole(examples())]
    assert min(sequences) < 5 < max(sequences)
    assert 6 in sequences


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_separate_rows_packed_rows_and_trees_are_the_same(architecture: str) -> None:
    assert_same(make(architecture))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_padded_batch_is_the_same_as_trees(architecture: str) -> None:
    # In float32: at a padded place transformers' own mask overflows in float64.
    model = make(architecture, torch.float32)
    own, found = tiny.eager(model), examples()
    expected, tree = padded(own, whole(found)), one_row(model, flat(found))
    assert furthest(tree, expected) < 2e-5
    mine, theirs = gradients(model, tree), gradients(own, expected)
    assert mine.keys() == theirs.keys()
    assert furthest(list(mine.values()), list(theirs.values())) < 2e-5


@pytest.mark.parametrize("architecture", ["qwen3_moe", "mixtral"])
def test_the_router_chooses_the_same_experts(architecture: str) -> None:
    model, found = make(architecture), examples()
    batch = flat(found)
    chosen: list[Tensor] = []

    def routes(of: nn.Module, run: Callable[[], object]) -> list[Tensor]:
        chosen.clear()
        routers = [module for name, module in of.named_modules() if name.endswith(".gate")]
        hooks = [router.register_forward_hook(lambda *seen: chosen.append(seen[2][2])) for router in routers]
        run()
        for hook in hooks:
            hook.remove()
        return list(chosen)

    ours = routes(model, lambda: one_row(model, batch))
    own = tiny.eager(model)
    assert len(ours) == 2
    assert len({tuple(sorted(row)) for row in ours[0].tolist()}) > 3
    for rows, ids in zip(places(batch), whole(found), strict=True):
        theirs = routes(own, lambda ids=ids: separate(own, [ids]))
        assert all(torch.equal(a[rows], b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_check_lets_them_pass(architecture: str, dtype: torch.dtype) -> None:
    model = make(architecture, dtype).train()
    attention.check(model)
    assert model.training
    assert model.config._attn_implementation == attention.NAME


@pytest.mark.parametrize("architecture", REFUSED)
def test_the_check_names_what_is_not_supported_and_what_is(architecture: str) -> None:
    changes, reason = REFUSED[architecture]
    model = make(architecture, torch.float32, **changes)
    name = type(model).__name__
    with pytest.raises(ModelError, match=f"^{name}: .*{reason}.*not supported.*tested are Llama, .*Gemma 3") as error:
        attention.check(model)
    assert "\n" not in str(error.value)
    assert model.config._attn_implementation == attention.NAME


def test_an_encoder_decoder_is_no_decoder() -> None:
    with pytest.raises(ModelError, match="architecture t5: not a decoder"):
        checkpoint.create(AutoConfig.for_model("t5", vocab_size=60, d_model=16, num_layers=1), seed=0)


def test_a_window_that_is_not_the_masks_is_found() -> None:
    model = make("gemma3_text", sliding_window=40)  # longer than any sequence that the check reads
    attention.check(model)
    for wrong in (39, 41, None):
        model.model.layers[0].self_attn.sliding_window = wrong
        with pytest.raises(ModelError, match="nor that of the window it names"):
            attention.check(model)


def shifted(batch: Batch) -> Batch:
    """The second branch of the first tree stands one place too far."""
    tree, positions = batch.layout.trees[0], batch.positions.clone()
    begin = tree.start + tree.prompt + tree.branches[0]
    positions[begin : begin + tree.branches[1]] += 1
    return dataclasses.replace(batch, positions=positions)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "gemma3_text"])
def test_shifted_positions_are_caught(architecture: str) -> None:
    with pytest.raises(AssertionError):
        assert_same(make(architecture), shift=shifted)


def see_siblings(layout: attention.Layout) -> tuple[list[int], list[int]]:
    lengths = [tree.prompt + sum(tree.branches) for tree in layout.trees]
    return lengths, [0] * len(lengths)


def miss_the_prompts_last(layout: attention.Layout) -> tuple[list[int], list[int]]:
    lengths, seen = PIECES(layout)
    return lengths, [max(0, before - 1) for before in seen]


def see_the_next(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    return VISIBLE(queries + 1, keys, None if window is None else window + 1)


def see_one_too_far_back(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    return VISIBLE(queries, keys, None if window is None else window + 1)


def see_one_too_few(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    return VISIBLE(queries, keys, None if window is None else window - 1)


def next_in_plain_sequences(query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False, **other: Any) -> Tensor:
    if is_causal:
        other["attn_mask"] = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(1)
    return SDPA(query, key, value, **other)


PIECES, VISIBLE = attention._pieces, attention._visible
SDPA = torch.nn.functional.scaled_dot_product_attention


@pytest.mark.parametrize(
    ("architecture", "name", "fault"),
    [
        ("qwen3", "_pieces", see_siblings),
        ("gpt2", "_pieces", see_siblings),
        ("qwen3", "_pieces", miss_the_prompts_last),
        ("qwen3", "_visible", see_the_next),
        ("mistral", "_visible", see_the_next),
        ("mistral", "_visible", see_one_too_far_back),
        ("mistral", "_visible", see_one_too_few),
        ("gemma3_text", "_visible", see_one_too_far_back),
        ("qwen3", "F.scaled_dot_product_attention", next_in_plain_sequences),
    ],
)
def test_faults_in_attention_are_caught(
    architecture: str, name: str, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(architecture)
    monkeypatch.setattr(f"tutelage.model.attention.{name}", fault)
    with pytest.raises(AssertionError):
        assert_same(model)
    with pytest.raises(ModelError, match="not supported"):
        attention.check(model)
