"""Log-probabilities under the reference model: computed once, before the first update, and kept beside the run.

They stand in ``.reference`` beside the run's folder, in a file that is called after all they depend on: the weights,
the tokens, how they are laid in rows, and the arithmetic. So another run with another beta, or this one after a kill,
reads them, and a changed model, template, length or record computes them anew. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage.errors import SelfCheckError
from tutelage.model import checkpoint, device
from tutelage.run import Run, rank
from tutelage.training import lanes
from tutelage.training.batches import Example, flat, micro
from tutelage.training.lanes import Lanes
from tutelage.training.likelihood import token_log_probabilities

FOLDER = ".reference"
FORM = 2
"""Goes up when the same key would mean other numbers."""


@torch.no_grad()
def response_log_probabilities(run: Run, model: nn.Module, examples: Sequence[Example], limit: int) -> Tensor:
    """(N, K) sums over each branch's tokens, in nats, for N examples of K branches each.

    Read from beside the run if they are known, else computed in rows of at most ``limit`` tokens and kept there.
    """
    key = _key(model, examples, limit)
    file = run.path.parent / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    known = _read(file, key)
    if known is not None:
        run.note(f"log-probabilities of the reference read from {file.parent.name}/{file.name}")
        return known
    where = next(model.parameters()).device
    sums: list[Tensor] = []
    side_by_side = Lanes(lanes.count(model))
    groups = micro(range(len(examples)), [example.tokens for example in examples], limit // side_by_side.number)

    @torch.no_grad()  # each thread has its own mode
    def of(group: list[int]) -> Tensor:
        batch = flat([examples[i] for i in group]).to(where)
        return batch.per_branch(token_log_probabilities(model, batch)).view(len(group), -1).cpu()

    for start in run.progress(range(0, len(groups), side_by_side.number), "reference"):
        sums += side_by_side.each(of, groups[start : start + side_by_side.number])
    whole = torch.cat(sums)
    if rank() == 0:
        _write(file, key, whole)
    return whole


@torch.no_grad()
def self_check(policy: nn.Module, example: Example, known: Tensor) -> None:
    """Before the first update the policy is the reference: ``known`` are its (K,) sums for the example.

    Raises:
        SelfCheckError: it is not.
    """
    batch = flat([example]).to(known.device)
    difference = float((batch.per_branch(token_log_probabilities(policy, batch)) - known).abs().max())
    if not difference < (1e-2 if device.exact() else 1 + len(batch.targets) / 50):
        raise SelfCheckError(
            f"self-check: policy and reference differ by {difference:.3g} nats before the first update: dropout is on, "
            "or the reference is stale"
        )


def _key(model: nn.Module, examples: Sequence[Example], limit: int) -> str:
    """All that the numbers depend on, to the last bit, as JSON."""
    tokens = hashlib.sha256()
    for example in examples:
        laid = [example.prompt, [[branch.ids, branch.trained] for branch in example.branches]]
        tokens.update(json.dumps(laid).encode())
    machine = [device.describe(), torch.__version__, torch.backends.cpu.get_cpu_capability()]
    parts: dict[str, Any] = {
        "form": FORM, "model": _model_hash(model), "tokens": tokens.hexdigest(), "row": limit, "machine": machine,
    }  # fmt: skip
    return json.dumps(parts, sort_keys=True)


def _model_hash(model: nn.Module) -> str:
    """SHA-256 of the config and of all weights as they are in memory, whatever they were loaded from."""
    config = checkpoint.base(model).config.to_dict()
    plain = {name: value for name, value in config.items() if "name_or_path" not in name}
    found = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():  # of quantised weights it also has the scales
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _write(file: Path, key: str, values: Tensor) -> None:
    """Beside and then renamed, so that what is there is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    save_file({"sums": values.contiguous()}, beside, {"key": key, "content": _content(values)})
    os.replace(beside, file)


def _read(file: Path, key: str) -> Tensor | None:
    """What was kept under this very key; None if nothing was, or it is damaged."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            told, values = opened.metadata() or {}, opened.get_tensor("sums")
    except (OSError, SafetensorError):
        return None
    return values if told.get("key") == key and told.get("content") == _content(values) else None


def _content(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()
