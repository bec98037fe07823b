"""LISA: a few blocks are trained at a time, drawn anew every so many steps; embeddings and head always.

Gradients and optimizer states exist for what is being trained alone. The weights themselves are all there, and the
backward pass goes down to the lowest weight that is trained: to the embeddings, unless these are left out.

Source: Pan et al. 2024, arXiv 2403.17919, algorithm 1: the probability of a layer is 1 for embeddings and head, which
a look at LoRA's weights had shown to matter most, and the same for all blocks between. As in the authors' own code,
exactly so many blocks are drawn; the algorithm as printed draws each by itself.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from tutelage.errors import SettingsError
from tutelage.model import bottleneck
from tutelage.run import processes
from tutelage.training.optimizer import Optimizers


@dataclass(frozen=True, kw_only=True)
class Lisa:
    """Which blocks are trained when."""

    lisa_layers: Annotated[int, Field(ge=0)] = 0
    """LISA: blocks that are trained at a time; 0 trains all of them all the time."""
    lisa_interval: Annotated[int, Field(gt=0)] = 20
    """Steps after which other blocks are drawn; the optimizer forgets those that go."""
    lisa_sampling: Literal["exact", "bernoulli"] = "exact"
    """Exactly so many blocks, or each by itself so that there are so many on average."""
    lisa_embeddings: bool = True
    """Whether embeddings and head are trained as well, always; without them the backward pass ends at the lowest block
    that is trained."""


class Drawn:
    """The blocks that are trained, by the step. Without `lisa_layers`, all of the model as it is.

    Between the steps every weight that is ever trained is trainable, so that whoever builds optimizers or saves a
    state finds them all; `live` turns off the others for a step.

    Raises:
        SettingsError: there are not so many blocks, or an adapter is trained, or several processes train.
    """

    def __init__(self, model: nn.Module, settings: Lisa, seed: int) -> None:
        self.model = model
        self.settings = settings
        self.seed = seed
        self.names: list[list[str]] = []
        """Of each block, the names of its weights in the model."""
        if not settings.lisa_layers:
            return
        if not isinstance(model, PreTrainedModel) or not all(weight.requires_grad for weight in model.parameters()):
            raise SettingsError("lisa_layers: LISA trains the model's own weights: leave out the adapter")
        if processes() > 1:
            raise SettingsError("lisa_layers: LISA runs in one process: start it without torchrun")
        blocks = bottleneck.blocks(model)
        if settings.lisa_layers > len(blocks):
            raise SettingsError(f"lisa_layers: {settings.lisa_layers}: the model has {len(blocks)} blocks")
        places = {id(weight): name for name, weight in model.named_parameters()}
        self.names = [[places[id(weight)] for weight in block.parameters()] for block in blocks]
        if not settings.lisa_embeddings:
            for part in [m for m in model.modules() if isinstance(m, nn.Embedding)] + [model.get_output_embeddings()]:
                if part is not None:
                    part.requires_grad_(False)

    def chosen(self, step: int) -> set[int]:
        """The blocks that are trained in a step; by seed and step alone."""
        chance = random.Random(f"{self.seed}:lisa:{step // self.settings.lisa_interval}")
        count, wanted = len(self.names), self.settings.lisa_layers
        if self.settings.lisa_sampling == "bernoulli":
            return {number for number in range(count) if chance.random() < wanted / count}
        return set(chance.sample(range(count), wanted))

    @contextlib.contextmanager
    def live(self, step: int, optimizers: Optimizers) -> Generator[None]:
        """For the forward and backward passes of a step: only what is trained in it takes gradients.

        The optimizer's state of all other blocks is dropped, so what comes back begins with fresh moments.
        """
        chosen = self.chosen(step) if self.names else set[int]()
        resting = [name for number, names in enumerate(self.names) if number not in chosen for name in names]
        weights = dict(self.model.named_parameters()) if resting else {}
        for name in resting:
            for optimizer in optimizers.all:
                optimizer.state.pop(optimizers.named[name], None)
            weights[name].requires_grad_(False)
        try:
            yield
        finally:
            for name in resting:
                weights[name].requires_grad_(True)
