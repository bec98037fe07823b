"""Log-probabilities under the reference model: computed once, before the first update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutelage.errors import SelfCheckError
from tutelage.run import Run
from tutelage.training.batches import Example, flat, micro
from tutelage.training.likelihood import token_log_probabilities


@torch.no_grad()
def response_log_probabilities(run: Run, model: nn.Module, examples: Sequence[Example], limit: int) -> Tensor:
    """(N, K) sums over each branch's tokens, in nats, for N examples of K branches each."""
    where = next(model.parameters()).device
    sums: list[Tensor] = []
    groups = micro(range(len(examples)), [example.tokens for example in examples], limit)
    for group in run.progress(groups, "reference"):
        batch = flat([examples[i] for i in group]).to(where)
        found = batch.per_branch(token_log_probabilities(model, batch))
        sums.append(found.view(len(group), -1).cpu())
    return torch.cat(sums)


@torch.no_grad()
def self_check(policy: nn.Module, example: Example, known: Tensor) -> None:
    """Before the first update the policy is the reference: ``known`` are its (K,) sums for the example.

    Raises:
        SelfCheckError: it is not.
    """
    batch = flat([example]).to(known.device)
    difference = float((batch.per_branch(token_log_probabilities(policy, batch)) - known).abs().max())
    if not difference < (1e-2 if known.device.type == "cpu" else 1.0):
        raise SelfCheckError(
            f"self-check: policy and reference differ by {difference:.3g} nats before the first update: dropout is on, "
            "or the reference is stale"
        )
