"""Encoders: transformers' BERT over a flat row, where each sequence sees all of itself and nothing else.

Attention is registered with transformers' ``AttentionInterface`` as "tutelage_encoder"; `check` compares it with the
architecture's own on padded rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from tokenizers import processors
from torch import Tensor, nn
from transformers import AttentionInterface, BertForPreTraining, PreTrainedConfig, PreTrainedTokenizerFast

from tutelage.errors import ModelError
from tutelage.model.attention import Layout, Tree
from tutelage.model.device import device, precision

NAME = "tutelage_encoder"

ARCHITECTURES = ("bert",)
"""Model types with both heads, for masked tokens and for the next sentence."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The ids of an encoder's special tokens, and the size of its vocabulary."""

    cls: int
    sep: int
    mask: int
    vocabulary: int


def add_marks(tokenizer: PreTrainedTokenizerFast) -> Marks:
    """Gives the tokenizer the special tokens that an encoder needs and it lacks; their ids come after all others.

    From then on ``tokenizer(a, b)`` gives ``<|cls|> a <|sep|> b <|sep|>`` with token types 0 and 1.
    """
    wanted = {"cls_token": "<|cls|>", "sep_token": "<|sep|>", "mask_token": "<|mask|>"}
    tokenizer.add_special_tokens({name: mark for name, mark in wanted.items() if getattr(tokenizer, name) is None})  # pyright: ignore
    cls, sep = str(tokenizer.cls_token), str(tokenizer.sep_token)
    marks = Marks(
        cast(int, tokenizer.cls_token_id),
        cast(int, tokenizer.sep_token_id),
        cast(int, tokenizer.mask_token_id),
        len(tokenizer),
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, marks.cls), (sep, marks.sep)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names  # the latter is what is saved
    return marks


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  part of the interface
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each tree of a row, both ways; an encoder's trees have one branch.

    Shapes: query, key and value (1, heads, T, size); gives (1, T, heads, size).

    Raises:
        ModelError: the architecture did not hand the layout on.
    """
    if layout is None:
        raise ModelError(f"{type(module).__name__}: its model does not hand the layout on to attention: use bert")
    lengths = [tree.prompt + sum(tree.branches) for tree in layout.trees]
    parts = [
        F.scaled_dot_product_attention(q, k, v, scale=scaling, dropout_p=dropout)
        for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


AttentionInterface.register(NAME, attention)


def create(config: PreTrainedConfig, seed: int) -> BertForPreTraining:
    """An encoder with fresh weights and both heads, the same for the same seed.

    Raises:
        ModelError: the architecture is none of `ARCHITECTURES`, or its logits differ from its own attention's.
    """
    if config.model_type not in ARCHITECTURES:
        raise ModelError(f"architecture {config.model_type}: not an encoder with both heads: use bert")
    torch.manual_seed(seed)
    model = BertForPreTraining._from_config(config, attn_implementation=NAME, dtype=torch.float32)  # pyright: ignore
    model.to(device())  # pyright: ignore
    check(model.eval())
    return model.to(precision())  # pyright: ignore


def row_of(lengths: Sequence[int]) -> Layout:
    """The layout of sequences of these lengths, one after the other."""
    starts = [0, *accumulate(lengths)]
    return Layout(tuple(Tree(start, 0, (length,)) for start, length in zip(starts, lengths, strict=False)))


def hidden_states(
    model: BertForPreTraining, ids: Tensor, segments: Tensor, positions: Tensor, layout: Layout
) -> Tensor:
    """(T, width) last hidden states of a flat row; ids, segments (token types) and positions are (T,)."""
    output = model.bert(input_ids=ids[None], token_type_ids=segments[None], position_ids=positions[None], layout=layout)
    return cast(Tensor, output.last_hidden_state)[0]


def token_logits(model: BertForPreTraining, states: Tensor) -> Tensor:
    """(S, vocabulary) float32 logits of the tokens that stood where these hidden states (S, width) are."""
    return _precise(model.cls.predictions(states))


def next_logits(model: BertForPreTraining, states: Tensor) -> Tensor:
    """(B, 2) float32 logits of "it follows" and "it does not", from the hidden states of first tokens (B, width)."""
    assert model.bert.pooler is not None
    return _precise(model.cls.seq_relationship(model.bert.pooler(states[:, None])))


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def save(model: BertForPreTraining, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes what ``BertForPreTraining``, ``AutoModelForMaskedLM`` and ``AutoTokenizer`` load."""
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def check(model: BertForPreTraining) -> None:
    """Compares both heads over a flat row with the architecture's own attention over padded rows.

    Raises:
        ModelError: they differ.
    """
    lengths, longest = (5, 7), 7
    where = model.device
    ids = torch.arange(12, device=where) * 7 % int(model.config.vocab_size)  # pyright: ignore
    positions = torch.cat([torch.arange(n) for n in lengths]).to(where)
    segments = (positions > 2).long()
    rows = torch.repeat_interleave(torch.arange(2, device=where), torch.tensor(lengths, device=where))
    padded = {
        name: torch.zeros(2, longest, dtype=torch.long, device=where).index_put((rows, positions), values)
        for name, values in (
            ("input_ids", ids),
            ("token_type_ids", segments),
            ("attention_mask", torch.ones_like(ids)),
        )
    }
    with torch.no_grad():
        states = hidden_states(model, ids, segments, positions, row_of(lengths))
        ours = token_logits(model, states), next_logits(model, states[positions == 0])
        model.set_attn_implementation("eager")
        own = model(**padded)
        model.set_attn_implementation(NAME)
    theirs = own.prediction_logits[rows, positions], own.seq_relationship_logits
    difference = max(float((a - b.float()).abs().max()) for a, b in zip(ours, theirs, strict=True))
    if not difference < 1e-3:
        raise ModelError(
            f"{type(model).__name__}: its logits differ by {difference:.2g} from its own attention's: "
            "this architecture is not supported; tested is bert"
        )
