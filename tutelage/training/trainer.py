"""Housekeeping that the stages call: steps, gradients, numbers, checkpoints. The loop and the loss stay in the stage.

trainer = Trainer(run, model, recipe, steps=len(plan))
for step in trainer.steps():                       # goes on where a killed run stopped
    for rows in micro(plan[step], ...):
        trainer.backward(loss, accuracy=...)       # each already divided by the whole step's count
    trainer.update()                               # clips, steps, logs, saves
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import SelfCheckError
from tutelage.run import Run
from tutelage.training.optimizer import Learning, Optimizers, schedule


class Trainer:
    """Updates the trainable weights of a model, step by step, and can go on from any of them bit for bit.

    ``model``: whatever holds the weights; several models go in an ``nn.ModuleDict``. ``memory``: small things that
    change with the steps and must survive a crash, such as a KL coefficient.
    """

    def __init__(
        self, run: Run, model: nn.Module, settings: Learning, steps: int, memory: dict[str, Any] | None = None
    ) -> None:
        self.run = run
        self.model = model
        self.settings = settings
        self.total = steps
        self.memory = memory if memory is not None else {}
        self.optimizers = Optimizers(model, settings)
        self.step = 0
        self.device = next(model.parameters()).device
        self.sums: dict[str, float] = {}
        self.latest = ""
        self.saved = self.ticked = time.monotonic()
        self._resume()

    def steps(self, description: str = "training") -> Iterator[int]:
        """The numbers of the steps that remain, from 0, with a progress bar."""
        remaining = range(self.step, self.total)
        for step in self.run.progress(remaining, description, self.total, self.step, note=lambda: self.latest):
            yield step
            self.step = step + 1
            if time.monotonic() - self.saved >= self.settings.save_seconds and self.step < self.total:
                self.save()

    def backward(self, loss: Tensor, **numbers: float | Tensor) -> None:
        """Adds the gradients of a loss that is already divided by the step's total count.

        ``numbers`` are added up over the rows of the step, so they too are shares of it.
        """
        loss.backward()
        self.add(loss=loss, **numbers)

    def add(self, **numbers: float | Tensor) -> None:
        """Adds to the numbers of this step."""
        for name, value in numbers.items():
            plain = value.detach().item() if isinstance(value, Tensor) else value
            self.sums[name] = self.sums.get(name, 0.0) + float(plain)

    def update(self, **numbers: float | Tensor) -> None:
        """One update and its line of numbers: `apply`, then `log`."""
        self.add(**numbers)
        self.log(gradient_norm=self.apply())

    def apply(self) -> float:
        """Clips the gradients and steps the optimizer; gives the norm before clipping.

        Raises:
            SelfCheckError: the loss or a gradient is not finite.
        """
        norm = float(nn.utils.clip_grad_norm_(self.optimizers.parameters, self.settings.max_grad_norm))
        if not math.isfinite(norm) or not math.isfinite(self.sums.get("loss", 0.0)):
            raise SelfCheckError(
                f"step {self.step}: the loss ({self.sums.get('loss', 0.0):.3g}) or its gradient ({norm:.3g}) is not "
                "finite: lower learning_rate"
            )
        self.optimizers.step(schedule(self.settings, self.step, self.total))
        return norm

    def log(self, **numbers: float | Tensor) -> None:
        """Writes the step's numbers."""
        self.add(**numbers)
        now = time.monotonic()
        if "tokens" in self.sums:
            self.sums["tokens_per_second"] = round(self.sums["tokens"] / max(1e-9, now - self.ticked), 1)
        self.ticked = now
        rate = self.settings.learning_rate * schedule(self.settings, self.step, self.total)
        self.run.measure(self.step, **self.sums, learning_rate=rate)
        shown = [name for name in ("loss", "score", "accuracy", "kl") if name in self.sums]
        self.latest = " ".join(f"{name} {self.sums[name]:.3g}" for name in shown)
        self.sums = {}

    def save(self) -> None:
        """Keeps everything that is needed to go on, beside and then renamed."""
        folder = self.run.checkpoint
        folder.mkdir(exist_ok=True)
        metrics = self.run.folder / "metrics.jsonl"
        state = {
            "step": self.step,
            "weights": {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad},
            "optimizers": self.optimizers.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "memory": self.memory,
            "metrics": metrics.stat().st_size if metrics.exists() else 0,
        }
        torch.save(state, folder / "state.pt.tmp")
        os.replace(folder / "state.pt.tmp", folder / "state.pt")
        self.saved = time.monotonic()

    def _resume(self) -> None:
        file = self.run.checkpoint / "state.pt"
        metrics = self.run.folder / "metrics.jsonl"
        if not file.exists():
            metrics.unlink(missing_ok=True)
            return
        state = torch.load(file, map_location=self.device, weights_only=False)
        weights = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state["weights"].items():
                weights[name].copy_(value)
        self.optimizers.load_state_dict(state["optimizers"])
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all([r.cpu() for r in state["random_cuda"]])
        self.memory.clear()
        self.memory.update(state["memory"])
        self.step = state["step"]
        if metrics.exists():
            with metrics.open("r+b") as lines:
                lines.truncate(state["metrics"])
        self.run.note(f"goes on from step {self.step} of {self.total}")
