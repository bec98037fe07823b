"""Housekeeping that the stages call: steps, gradients, numbers, checkpoints. The loop and the loss stay in the stage.

trainer = Trainer(run, model, recipe, steps=len(plan))
for step in trainer.steps():                       # goes on where a killed run stopped
    trainer.learn(plan[step], examples, losses)    # of each row, already divided by the whole step's count
    trainer.update()                               # clips, steps, logs, saves
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tutelage.errors import RunError, SelfCheckError
from tutelage.model import distribution, forward
from tutelage.run import Run, rank, sync
from tutelage.training import footprint, lanes, state
from tutelage.training.batches import Batch, Example, flat, pack, rows
from tutelage.training.lanes import Lanes, Losses, plain
from tutelage.training.optimizer import Learning, Optimizers, schedule

T = TypeVar("T")


class Trainer:
    """Updates the trainable weights of a model, step by step, and can go on from any of them bit for bit.

    ``model``: whatever holds the weights; several models go in an ``nn.ModuleDict``. ``memory``: small things that
    change with the steps and must survive a crash, such as a KL coefficient: what JSON can hold. ``longest``: tokens of
    an example, at most.

    Under ``torchrun`` each process does this with its share of every step, and all end with the same weights.

    Raises:
        RoomError: what it needs does not fit in the memory there is.
    """

    def __init__(
        self, run: Run, model: nn.Module, settings: Learning, steps: int, memory: dict[str, Any] | None = None,
        longest: int = 0,
    ) -> None:  # fmt: skip
        self.run = run
        self.model = model
        self.settings = settings
        self.total = steps
        self.memory = memory if memory is not None else {}
        if settings.gradient_checkpointing:
            footprint.checkpoint_activations(model)
        footprint.require(run, model, settings, longest)
        distribution.shard(model, forward.decoded)
        self.optimizers = Optimizers(model, settings)
        self.step = 0
        self.device = next(model.parameters()).device
        self.shares: dict[str, float] = {}
        self.sums: dict[str, float] = {}
        self.updates = 0
        self.best = math.inf
        self.weight = 1.0
        self.lanes = Lanes(lanes.count(model))
        self.row: list[str] = []
        self.losses: list[tuple[list[str], float]] = []
        self.latest = ""
        self.saved = self.ticked = time.monotonic()
        if rank():
            torch.manual_seed(settings.seed * 1_000_003 + rank())  # other dropout on other examples
        self.before = self._changing()
        self._resume()

    def steps(self, description: str = "training") -> Iterator[int]:
        """The numbers of the steps that remain, from 0, with a progress bar."""
        remaining = range(self.step, self.total)
        for step in self.run.progress(remaining, description, self.total, self.step, note=lambda: self.latest):
            self.before = self._changing()
            yield step
            self.step = step + 1
            late = time.monotonic() - self.saved >= self.settings.save_seconds
            if self.step < self.total and distribution.largest(int(late)):
                self.save()
        distribution.fold(self.model)

    def learn(
        self,
        chosen: Sequence[int],
        examples: Sequence[Example],
        losses: Callable[[list[int], Batch, Sequence[int]], Losses],
    ) -> None:
        """Adds the gradients of the chosen examples, row by row, or several rows at a time; see `training.lanes`.

        losses: of a row, given as its examples' indices and as a batch, and of all that are chosen, by whose count they
        are to be divided; each with its numbers, see `backward`. What one needs for its backward pass is gone before
        the next is asked for, so they share no graph. It may be called from several threads.
        """
        side_by_side = self._side_by_side(chosen, examples)
        if not side_by_side or lanes.draws(self.model):
            for row, batch in self.rows(chosen, examples):
                for loss, numbers in losses(row, batch, chosen):
                    self.backward(loss, **numbers)
            return

        def of(row: list[int]) -> Losses:
            return losses(row, flat([examples[i] for i in row]).to(self.device), chosen)

        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        for row, found in zip(side_by_side, self.lanes.backward(of, side_by_side, weights), strict=True):
            self.row = _names(row, examples)
            for loss, numbers in found:
                self._note(loss, numbers)
        self.row = []

    @torch.no_grad()
    def look(
        self, chosen: Sequence[int], examples: Sequence[Example], work: Callable[[list[int], Batch], T]
    ) -> list[tuple[list[int], T]]:
        """What the work gives for each row of the chosen examples, without gradients, with its examples' indices."""

        @torch.no_grad()  # each thread has its own mode
        def of(row: list[int]) -> tuple[list[int], T]:
            return row, work(row, flat([examples[i] for i in row]).to(self.device))

        sizes = [examples[i].tokens for i in chosen]
        side_by_side = self._side_by_side(chosen, examples)
        if side_by_side:
            return self.lanes.each(of, side_by_side)
        return [of(row) for row in pack(chosen, sizes, self.settings.max_batch_tokens)]

    def _side_by_side(self, chosen: Sequence[int], examples: Sequence[Example]) -> list[list[int]]:
        """Rows for all lanes, of as many tokens as may be computed at a time in all; none if there are no two."""
        sizes = [examples[i].tokens for i in chosen]
        limit = self.settings.max_batch_tokens // self.lanes.number
        if self.lanes.number == 1 or len(chosen) < 2 or max(sizes) > limit:
            return []
        groups = pack(chosen, sizes, limit)
        evened = lanes.even(chosen, sizes, -(-len(groups) // self.lanes.number) * self.lanes.number)
        longest = max(sum(examples[i].tokens for i in row) for row in evened)
        return evened if longest <= limit else groups

    def rows(self, chosen: Sequence[int], examples: Sequence[Example]) -> Iterator[tuple[list[int], Batch]]:
        """The chosen examples as flat rows of at most `max_batch_tokens`, each with its examples' indices.

        Of several processes each has rows of its own, and all equally many: what is missing is filled up with a short
        row that counts nothing.
        """
        sizes = [examples[i].tokens for i in chosen]
        limit = self.settings.max_batch_tokens
        mine = list(rows(distribution.share(chosen, sizes), examples, limit, self.device, packed=True))
        lacking = distribution.largest(len(mine)) - len(mine)
        shortest = [chosen[sizes.index(min(sizes))]]
        for place in range(len(mine) + lacking):
            self.weight = 1.0 if place < len(mine) else 0.0
            row, batch = mine[place] if place < len(mine) else next(rows(shortest, examples, limit, self.device))
            self.row = _names(row, examples)
            yield row, batch
        self.weight, self.row = 1.0, []

    def backward(self, loss: Tensor, **numbers: float | Tensor) -> None:
        """Adds the gradients of a loss that is already divided by the step's total count.

        ``numbers`` are added up over the rows of an update and over processes, so they too are shares of it; of several
        updates in a step the mean is logged.
        """
        (loss if self.weight == 1 else loss * self.weight).backward()
        self._note(plain(loss), {name: plain(value) for name, value in numbers.items()})

    def _note(self, loss: float, numbers: dict[str, float]) -> None:
        for name, value in {"loss": loss, **numbers}.items():
            self.shares[name] = self.shares.get(name, 0.0) + self.weight * value
        self.losses.append((self.row, self.weight * loss))

    def add(self, **numbers: float | Tensor) -> None:
        """Adds to the numbers of this step; those of the whole step, that every process knows alike."""
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + plain(value)

    def update(self, **numbers: float | Tensor) -> None:
        """One update and its line of numbers: `apply`, then `log`."""
        self.add(**numbers)
        self.log(gradient_norm=self.apply())

    def apply(self) -> float:
        """Clips the gradients and steps the optimizer; gives the norm before clipping.

        Raises:
            SelfCheckError: the loss or a gradient is not finite; the state before the step is kept.
        """
        norm = self.optimizers.clip(self.settings.max_grad_norm)
        loss = distribution.summed({"loss": sum(value for _, value in self.losses)})["loss"]
        if not math.isfinite(norm) or not math.isfinite(loss):
            self._stop(loss, norm)
        distribution.fold(self.model)
        self.optimizers.step(schedule(self.settings, self.step, self.total))
        self.updates += 1
        self.losses = []
        return norm

    def log(self, **numbers: float | Tensor) -> None:
        """Writes the step's numbers."""
        self.add(**numbers)
        now = time.monotonic()
        shares = distribution.summed(self.shares)
        found = {name: value / max(1, self.updates) for name, value in shares.items()} | self.sums
        if "tokens" in found:
            found["tokens_per_second"] = round(found["tokens"] / max(1e-9, now - self.ticked), 1)
        self.ticked = now
        rate = self.settings.learning_rate * schedule(self.settings, self.step, self.total)
        self.run.measure(self.step, **found, learning_rate=rate)
        shown = [name for name in ("loss", "score", "accuracy", "kl") if name in found]
        self.latest = " ".join(f"{name} {found[name]:.3g}" for name in shown)
        self.sums, self.shares, self.updates = {}, {}, 0

    def judge(
        self, held_out: Sequence[int], examples: Sequence[Example], losses: Callable[..., Losses], every: int
    ) -> None:
        """Looks at examples that are not learned from, without dropout; after `update`, and only if it is time to.

        The weights are kept if their loss is the lowest so far. losses: as of `learn`.
        """
        if not held_out or ((self.step + 1) % every and self.step + 1 < self.total):
            return

        def told(row: list[int], batch: Batch) -> list[tuple[float, dict[str, float]]]:
            found = losses(row, batch, held_out)
            return [(plain(loss), {name: plain(value) for name, value in more.items()}) for loss, more in found]

        modes = [(part, part.training) for part in self.model.modules()]
        self.model.eval()
        every_row = [one for _, row in self.look(held_out, examples, told) for one in row]
        for part, training in modes:
            part.training = training
        loss = sum(one for one, _ in every_row)
        names = dict.fromkeys(name for _, more in every_row for name in more if name != "tokens")
        numbers = {name: sum(more.get(name, 0.0) for _, more in every_row) for name in names}
        self.run.measure(self.step, split="held_out", loss=loss, **numbers)
        if loss < self.best:
            self.best = loss
            state.write(self.run.checkpoint / "best", self.step, self._weights(), {"loss": loss}, keep=1)

    def take_best(self) -> None:
        """Takes up the weights that were judged best; at the end, if any were."""
        if self.best < math.inf:
            kept = state.newest(self.run, self.run.checkpoint / "best")
            assert kept is not None
            self.optimizers.take_up(lambda name: kept.tensor(f"weights/{name}"), {})
            self.run.note(f"takes the weights of step {kept.step}, whose held-out loss was lowest: {self.best:.4f}")

    def save(self) -> None:
        """Keeps everything that is needed to go on."""
        metrics = self.run.folder / "metrics.jsonl"
        small: dict[str, Any] = {"memory": self.memory, "best": self.best if self.best < math.inf else None}
        small["metrics"] = metrics.stat().st_size if metrics.exists() else 0
        if metrics.exists():
            sync(metrics)  # or a power cut may leave less of it than the state says
        tensors = self._weights()
        tensors |= {f"optimizer/{name}": value for name, value in self.optimizers.state().items()}
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.device)
        state.write(self.run.checkpoint, self.step, tensors, small, self.settings.save_total_limit)
        self.saved = time.monotonic()

    def _changing(self) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """What a step changes before its update: random numbers, those of a card, and memory."""
        card = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return torch.get_rng_state(), card, copy.deepcopy(self.memory)

    def _weights(self) -> dict[str, Tensor]:
        return {f"weights/{name}": weight for name, weight in self.optimizers.named.items()}

    def _stop(self, loss: float, norm: float) -> None:
        """Names what is not finite; weights and random numbers are as they were before the step."""
        suspects = [(names, value) for names, value in self.losses if not math.isfinite(value)] or self.losses
        names = distribution.gathered([name for names, _ in suspects for name in names])
        kept = ""
        if self.updates == 0:
            random, card, memory = self.before
            torch.set_rng_state(random)
            if card is not None:
                torch.cuda.set_rng_state(card, self.device)
            self.memory.clear()
            self.memory.update(memory)
            self.save()
            kept = "; the state before this step is kept, and the same command goes on from it"
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise SelfCheckError(
            f"step {self.step}: the loss ({loss:.3g}) or its gradient ({norm:.3g}) is not finite"
            f"{f' on {shown}: look at these records, or' if shown else ':'} lower learning_rate{kept}"
        )

    def _resume(self) -> None:
        metrics = self.run.folder / "metrics.jsonl"
        kept = state.newest(self.run, self.run.checkpoint)
        if kept is None:
            metrics.unlink(missing_ok=True)
            if rank() == 0:
                state.clear(self.run.checkpoint)
            return
        self._refuse_another(kept)
        optimizer = {name for name in kept.shapes if name.startswith("optimizer/")}
        self.optimizers.take_up(
            lambda name: kept.tensor(f"weights/{name}"),
            {name.removeprefix("optimizer/"): kept.tensor(name) for name in optimizer},
        )
        own = kept.own("random")
        if own is not None:
            torch.set_rng_state(own)
        if self.device.type == "cuda" and "random_cuda" in kept.shapes:
            own = kept.own("random_cuda")
            if own is not None:
                torch.cuda.set_rng_state(own, self.device)
        self.memory.clear()
        self.memory.update(kept.small["memory"])
        self.step = kept.step
        self.best = math.inf if kept.small["best"] is None else kept.small["best"]
        if metrics.exists():
            with metrics.open("r+b") as lines:
                lines.truncate(min(metrics.stat().st_size, kept.small["metrics"]))
        self.run.note(f"goes on from step {self.step} of {self.total}")

    def _refuse_another(self, kept: state.State) -> None:
        """Raises: RunError: the state is of a model with other weights."""
        held = {name.partition("/"): shape for name, shape in kept.shapes.items()}
        theirs = {name: shape for (kind, _, name), shape in held.items() if kind == "weights"}
        ours = {name: list(weight.shape) for name, weight in self.optimizers.named.items()}
        for name in [*ours, *theirs]:
            if ours.get(name) != theirs.get(name):
                raise RunError(
                    f"{kept.folder}: the state of another model: {name} is {theirs.get(name, 'not there')}, here "
                    f"{ours.get(name, 'not there')}: delete {kept.folder.parent} to begin again"
                )


def _names(row: Sequence[int], examples: Sequence[Example]) -> list[str]:
    return [examples[i].name or f"example {i}" for i in row]
