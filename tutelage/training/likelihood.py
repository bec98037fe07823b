"""Log-probabilities of tokens: the one function that every stage uses, for policy, reference and evaluation alike.

Hidden states are gathered where a token is trained; only there are logits computed, in chunks, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tutelage.errors import SelfCheckError
from tutelage.model import checkpoint, forward
from tutelage.model.chat import Chat
from tutelage.records import Comparison
from tutelage.training.batches import Batch, answers, documents, flat

CHUNK = 1 << 20
"""Logits held at a time: positions times vocabulary. Small enough to stay in a processor's cache."""


class Likelihoods(NamedTuple):
    """Of the S trained tokens of a batch."""

    chosen: Tensor
    """(S,) their log-probabilities, in nats; carries gradients."""
    entropy: Tensor
    """(S,) entropies of the distributions they were taken from, in nats."""
    likeliest: Tensor
    """(S,) 1 where the token is the likeliest of its distribution, else 0."""


def hidden_states(model: nn.Module, batch: Batch) -> Tensor:
    """(T, width) the decoder's last hidden states of a flat row."""
    return forward.hidden_states(model, batch.ids, batch.positions, batch.layout)


def likelihoods(model: nn.Module, batch: Batch, temperature: float = 1.0) -> Likelihoods:
    """The likelihoods of the trained tokens, under the model's distribution at a temperature."""
    states = hidden_states(model, batch)[batch.sources]
    scaling = (*forward.head_scaling(model), temperature)
    return Likelihoods(*_Chosen.apply(states, *forward.head(model), batch.targets, scaling))


def token_log_probabilities(model: nn.Module, batch: Batch, temperature: float = 1.0) -> Tensor:
    """(S,) log-probabilities of the trained tokens, in nats."""
    return likelihoods(model, batch, temperature).chosen


class _Chosen(torch.autograd.Function):
    """`Likelihoods` from hidden states and the head.

    Logits live one chunk at a time, forward and, computed again, backward: memory does not grow with tokens times
    vocabulary. Exact: the gradients are those of a log-softmax over whole rows.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        context: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor,
        scaling: tuple[float, float | None, float],
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        chosen = states.new_empty(len(states), dtype=torch.promote_types(states.dtype, torch.float32))
        entropy, likeliest, total = torch.empty_like(chosen), torch.empty_like(chosen), torch.empty_like(chosen)
        for rows in _chunks(len(states), weight.shape[0]):
            logits = forward.scaled(states[rows], weight, bias, *scaling)
            total[rows] = torch.logsumexp(logits, -1)
            picked = logits.gather(1, targets[rows, None])[:, 0]
            chosen[rows] = picked - total[rows]
            likeliest[rows] = (picked >= logits.amax(-1)).to(chosen.dtype)
            logits -= total[rows, None]
            entropy[rows] = -(logits.exp() * logits).sum(-1)
        context.save_for_backward(states, weight, bias, targets, total)
        context.scaling = scaling
        context.mark_non_differentiable(entropy, likeliest)
        return chosen, entropy, likeliest

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        states, weight, bias, targets, total = context.saved_tensors
        scale, cap, temperature = context.scaling
        need_states, need_weight, need_bias = context.needs_input_grad[:3]
        d_states = torch.empty_like(states) if need_states else None
        d_weight = torch.zeros_like(weight) if need_weight else None
        d_bias = torch.zeros_like(bias) if need_bias and bias is not None else None
        for rows in _chunks(len(states), weight.shape[0]):
            logits = forward.scaled(states[rows], weight, bias, scale, cap, temperature)
            upstream = gradients[0][rows, None]
            d_logits = torch.exp(logits - total[rows, None]).mul_(-upstream)
            d_logits.scatter_add_(1, targets[rows, None], upstream)
            # Through the cap: d tanh = 1 - tanh^2, and tanh is the capped logit over the cap.
            d_logits *= (
                scale / temperature if cap is None else scale / temperature * (1 - (logits * temperature / cap) ** 2)
            )
            d_logits = d_logits.to(states.dtype)
            if d_states is not None:
                d_states[rows] = d_logits @ weight
            if d_weight is not None:
                d_weight.addmm_(d_logits.T, states[rows])
            if d_bias is not None:
                d_bias += d_logits.sum(0)
        return d_states, d_weight, d_bias, None, None


def _chunks(count: int, vocabulary: int) -> list[slice]:
    size = max(16, CHUNK // vocabulary)
    return [slice(start, min(count, start + size)) for start in range(0, count, size)]


def scores(scorer: nn.Module, batch: Batch) -> Tensor:
    """(B,) scalar outputs at the last token of each branch."""
    return scalar_outputs(scorer, batch, batch.ends)


def scalar_outputs(scorer: nn.Module, batch: Batch, places: Tensor) -> Tensor:
    """(N,) float32 scalar outputs of a ``*ForSequenceClassification`` model at places of the row."""
    output = cast(nn.Module, checkpoint.base(scorer).score)  # pyright: ignore[reportAttributeAccessIssue]
    return cast(Tensor, output(hidden_states(scorer, batch)[places])).float()[:, 0]


def self_check(model: nn.Module, batch: Batch) -> None:
    """Before the first update: our log-probabilities are those of the model's own forward pass.

    Raises:
        SelfCheckError: they are not, or they are not finite.
    """
    with torch.no_grad():
        ours = token_log_probabilities(model, batch)
        output = checkpoint.base(model)(
            input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False, layout=batch.layout
        )
        plain = torch.log_softmax(output.logits[0].float(), -1)[batch.sources]
        theirs = plain.gather(1, batch.targets[:, None])[:, 0]
    if not bool(torch.isfinite(ours).all()):
        raise SelfCheckError("self-check: a log-probability is not finite: the model's weights are damaged")
    difference = float((ours - theirs).abs().max())
    limit = 1e-3 if output.logits.dtype == torch.float32 else 0.1
    if not difference < limit:
        raise SelfCheckError(
            f"self-check: log-probabilities differ by {difference:.3g} nats from the model's own forward pass: "
            "its head scales its logits in a way that is not handled"
        )


def bits_per_byte(folder: Path, texts: Sequence[str], length: int = 512) -> float:
    """Bits per UTF-8 byte of texts under a model: the sum of nats over ln 2 and bytes; lower is better.

    Every token is predicted once; the first of a text stands after the end-of-text token.
    """
    return bits_per_byte_of(*checkpoint.load(folder), texts, length)


def bits_per_byte_of(model: nn.Module, chat: Chat, texts: Sequence[str], length: int = 512) -> float:
    """As `bits_per_byte`, for a model in memory."""
    examples = documents(([document_end(chat), *chat.text(text)] for text in texts), None, length)
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(examples), 16):
            batch = flat(examples[start : start + 16]).to(next(model.parameters()).device)
            nats -= float(token_log_probabilities(model, batch).double().sum())
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def document_end(chat: Chat) -> int:
    """The id that ends a document: ``<|endoftext|>`` where there is one, else the end of a turn."""
    known = chat.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    end = known if isinstance(known, int) and known != chat.tokenizer.unk_token_id else chat.end
    assert end is not None
    return end


def reward_accuracy(folder: Path, comparisons: Sequence[Comparison], length: int = 4096) -> tuple[int, int]:
    """(pairs that the reward model orders rightly, pairs): ties in rank are left out, equal scores count as wrong."""
    scorer, chat = checkpoint.load_scorer(folder)
    right = pairs = 0
    with torch.no_grad():
        for comparison in comparisons:
            example = answers(comparison.prompt, comparison.responses, chat, length)
            if example is None:
                continue
            given = scores(scorer, flat([example]).to(scorer.device))  # pyright: ignore[reportArgumentType]
            for better, worse in comparison.pairs():
                right += bool(given[better] > given[worse])
                pairs += 1
    return right, pairs
