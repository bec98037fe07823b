"""What is not learned from, so that it can tell how well was learned."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tutelage.errors import RecordError


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The settings of stages that look at examples they do not learn from."""

    eval_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the examples that is held out, by whole prompts; if there is one, the weights with the lowest loss on it
    are saved, instead of the last ones."""
    eval_steps: Annotated[int, Field(gt=0)] = 50
    """Steps between two looks at the held-out loss; there is one after the last step, too."""


def divided(settings: Judged, prompts: Sequence[Hashable], seed: int, where: Path) -> tuple[list[int], list[int]]:
    """The examples to learn from and those held out, as indices; by the seed alone, and no prompt is in both.

    Raises:
        RecordError: one of the two would be empty.
    """
    known = list(dict.fromkeys(prompts))
    count = round(settings.eval_share * len(known))
    if settings.eval_share and not 0 < count < len(known):
        raise RecordError(
            f"{where}: eval_share {settings.eval_share} holds out {count} of {len(known)} prompts: change it, or give "
            "more"
        )
    aside = {known[i] for i in random.Random(f"{seed}:held_out").sample(range(len(known)), count)}
    learned = [i for i, prompt in enumerate(prompts) if prompt not in aside]
    return learned, [i for i, prompt in enumerate(prompts) if prompt in aside]
