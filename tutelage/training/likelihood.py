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
from tutelage.model import checkpoint, device, forward, products
from tutelage.model.chat import Chat
from tutelage.records import Comparison
from tutelage.training import fused
from tutelage.training.batches import Batch, answers, documents, flat, micro
from tutelage.training.fused import Scaling

CHUNK = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Logits held at a time, positions times vocabulary: on a CPU few enough to stay in its cache."""
ROWS = 128
"""Positions taken at a time at least: with fewer, a large head is read from memory more often than it is worth."""

CHECKED = 64
"""Tokens of the self-check, at most: the model's own forward pass has logits for all of them at once."""


class Likelihoods(NamedTuple):
    """Of the S trained tokens of a batch."""

    chosen: Tensor
    """(S,) their log-probabilities, in nats; carries gradients."""
    likeliest: Tensor
    """(S,) 1 where the token is the likeliest of its distribution, else 0."""
    entropy: Tensor | None = None
    """(S,) entropies of the distributions they were taken from, in nats, if they were asked for."""


def hidden_states(model: nn.Module, batch: Batch) -> Tensor:
    """(T, width) the decoder's last hidden states of a flat row."""
    return forward.hidden_states(model, batch.ids, batch.positions, batch.layout)


def likelihoods(
    model: nn.Module, batch: Batch, temperature: float = 1.0, alike: bool = False, entropy: bool = False
) -> Likelihoods:
    """The likelihoods of the trained tokens, under the model's distribution at a temperature.

    alike: the loss will weigh every token of the batch alike, as imitation does; then the head's gradients are made in
    the same pass as the values. If it turns out not to, they are made again, and are right all the same.
    entropy: entropies are asked for, too.
    """
    states = hidden_states(model, batch)[batch.sources]
    weight, bias = forward.head(model)
    if device.halved():
        states, weight = states.to(torch.bfloat16), weight.to(torch.bfloat16)
        bias = None if bias is None else bias.to(torch.bfloat16)
    scaling = (*forward.head_scaling(model), temperature)
    learning = torch.is_grad_enabled()
    if not entropy and fused.serves(states, scaling):
        return Likelihoods(*fused.Chosen.apply(states, weight, bias, batch.targets, scaling[1], learning, alike))
    return Likelihoods(*_Chosen.apply(states, weight, bias, batch.targets, scaling, learning, alike, entropy))


def token_log_probabilities(model: nn.Module, batch: Batch, temperature: float = 1.0, alike: bool = False) -> Tensor:
    """(S,) log-probabilities of the trained tokens, in nats; arguments as of `likelihoods`."""
    return likelihoods(model, batch, temperature, alike).chosen


class _Chosen(torch.autograd.Function):
    """`Likelihoods` from hidden states and the head.

    Logits live one chunk at a time: memory does not grow with tokens times vocabulary. Exact: the gradients are those
    of a log-softmax over whole rows.

    The gradient to a token's hidden state is a number from above times a vector that is known in the forward pass and
    made there. The head's gradients are sums over tokens, each times its number, so they need the logits once more, all
    but the last chunk's, which is kept; unless the numbers are all alike, as in Hsu et al. 2024, arXiv 2410.10989,
    section 3.2.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        context: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scaling: Scaling,
        learning: bool, alike: bool, wants_entropy: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        chosen = states.new_empty(len(states), dtype=torch.promote_types(states.dtype, torch.float32))
        likeliest, entropy = torch.empty_like(chosen), torch.empty_like(chosen) if wants_entropy else None
        needs = [learning and need for need in context.needs_input_grad[:3]]
        slopes = torch.empty_like(states) if needs[0] else None
        made = _HeadGradient.zeros(weight, bias, needs) if alike else None
        errors = None
        for rows in _chunks(states, weight):
            logits, probabilities, bend = _distribution(states[rows], weight, bias, scaling)
            chosen[rows], likeliest[rows], total = _values(logits, probabilities, targets[rows])
            if entropy is not None:
                entropy[rows] = total - logits.mul_(probabilities).sum(-1)
            if any(needs):
                errors = _errors(probabilities, bend, targets[rows], states.dtype)
            del logits, probabilities, bend
            if errors is not None and slopes is not None:
                slopes[rows] = products.linear(errors, weight.T).mul_(_factor(scaling))
            if errors is not None and made is not None:
                made.add(errors, states[rows], chosen.new_full((len(errors),), _factor(scaling)))
        context.save_for_backward(states, weight, bias, targets, slopes)
        context.scaling, context.made = scaling, made
        context.last = errors if made is None and any(needs[1:]) else None
        context.mark_non_differentiable(likeliest, *([] if entropy is None else [entropy]))
        return chosen, likeliest, entropy

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        states, weight, bias, targets, slopes = context.saved_tensors
        upstream = gradients[0]
        # Given away, not kept: autograd then takes it as it is, and a second backward pass makes it again.
        made, context.made = context.made, None
        if made is not None and bool((upstream == upstream[:1]).all()):
            made.scale(upstream[:1].sum())
        else:
            made = _HeadGradient.zeros(weight, bias, context.needs_input_grad)
            chunks = _chunks(states, weight) if any(context.needs_input_grad[1:3]) else []
            for rows in chunks:
                errors = context.last if rows is chunks[-1] else None
                if errors is None:
                    found = _distribution(states[rows], weight, bias, context.scaling)[1:]
                    errors = _errors(*found, targets[rows], states.dtype)
                    del found
                made.add(errors, states[rows], upstream[rows] * _factor(context.scaling))
        d_states = None if slopes is None else (slopes * upstream[:, None]).to(slopes.dtype)
        return d_states, made.weight, made.bias, None, None, None, None, None


class _HeadGradient(NamedTuple):
    """Gradients to the output matrix and to its bias, as far as they are wanted."""

    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(cls, weight: Tensor, bias: Tensor | None, needs: Sequence[bool]) -> _HeadGradient:
        """Needs: of states, weight and bias."""
        return cls(
            torch.zeros_like(weight) if needs[1] else None,
            torch.zeros_like(bias) if needs[2] and bias is not None else None,
        )

    def add(self, errors: Tensor, states: Tensor, upstream: Tensor) -> None:
        """Adds that of N tokens: errors (N, vocabulary), states (N, width), upstream (N,)."""
        if self.weight is not None:
            self.weight.addmm_(errors.T, (states * upstream[:, None]).to(states.dtype))
        if self.bias is not None:
            self.bias.addmv_(errors.T, upstream.to(errors.dtype))

    def scale(self, factor: Tensor) -> None:
        """By a number."""
        for gradient in self:
            if gradient is not None:
                gradient.mul_(factor)


def _distribution(
    states: Tensor, weight: Tensor, bias: Tensor | None, scaling: Scaling
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(N, vocabulary) logits, their softmax, and the slope of the soft cap at them, if there is one."""
    logits = forward.scaled(products.linear(states, weight, bias), *scaling)
    _, cap, temperature = scaling
    # d tanh = 1 - tanh^2, and tanh is the capped logit over the cap.
    bend = None if cap is None else 1 - (logits * (temperature / cap)) ** 2
    return logits, torch.softmax(logits, -1), bend


def _values(logits: Tensor, probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) each: log-probabilities of the targets, 1 where the target is the likeliest, and the logs of the sums."""
    largest, picked = logits.amax(-1), logits.gather(1, targets[:, None])[:, 0]
    total = largest - probabilities.amax(-1).log()
    return picked - total, (picked >= largest).to(total.dtype), total


def _errors(probabilities: Tensor, bend: Tensor | None, targets: Tensor, kind: torch.dtype) -> Tensor:
    """(N, vocabulary) how fast a target's log-probability falls with each output of the head, before factors.

    Written over the probabilities. The target's 1 is taken off before they are rounded to ``kind``: where a token is
    all but certain, only the difference matters.
    """
    probabilities[torch.arange(len(probabilities), device=probabilities.device), targets] -= 1
    return (probabilities if bend is None else probabilities.mul_(bend)).to(kind)


def _factor(scaling: Scaling) -> float:
    """Of `_errors`: the sign, the head's factor and the temperature."""
    scale, _, temperature = scaling
    return -scale / temperature


def _chunks(states: Tensor, weight: Tensor) -> list[slice]:
    size = max(ROWS, CHUNK[states.device.type] // len(weight))
    return [slice(start, min(len(states), start + size)) for start in range(0, len(states), size)]


def held(vocabulary: int, where: torch.device) -> int:
    """The most bytes that logits, and what is made of them, take at a time; a third more with a soft cap."""
    return 3 * 4 * max(ROWS * vocabulary, CHUNK[where.type])


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
    some = slice(None, None, -(-len(batch.sources) // CHECKED))
    sources, targets = batch.sources[some], batch.targets[some]
    with torch.no_grad():
        ours = token_log_probabilities(model, batch)
        with device.half():
            output = checkpoint.base(model)(
                input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False, layout=batch.layout,
                logits_to_keep=sources,
            )  # fmt: skip
        plain = torch.log_softmax(output.logits[0].float(), -1)
        theirs = (plain if len(plain) == len(sources) else plain[sources]).gather(1, targets[:, None])[:, 0]
    if not bool(torch.isfinite(ours).all()):
        raise SelfCheckError("self-check: a log-probability is not finite: the model's weights are damaged")
    difference, limit = device.apart(ours[some], theirs), 1e-3 if device.exact() else 0.1
    if not difference < limit:
        cause = (
            "dropout is on: put the model in eval mode for the check"
            if model.training
            else "its head scales its logits in a way that is not handled: use another architecture"
        )
        raise SelfCheckError(
            f"self-check: log-probabilities differ by {difference:.3g} nats from the model's own forward pass: {cause}"
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
        for row in micro(range(len(examples)), [example.tokens for example in examples], device.row_tokens()):
            batch = flat([examples[i] for i in row]).to(next(model.parameters()).device)
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
