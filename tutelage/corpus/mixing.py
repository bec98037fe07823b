"""How often each source is read: good text more often than the rest.

A weight of 3 means: as if each document of the source were there three times. Nothing is copied: a weight becomes a
count of epochs, and of a fraction of an epoch a share of the pieces that the seed chooses. Up to about four epochs
repeated text is worth nearly as much as new text, and soon after that little.

Source: Muennighoff et al. 2023, arXiv 2305.16264, on what repeated text is worth; their decay constant R* is 15.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.errors import SettingsError

MANY = 4.0
"""Epochs from which on there is a warning."""

WORTH = 15.4
"""R* of the paper: how fast a repetition loses its worth."""


@dataclass(frozen=True)
class Share:
    """One source in a mixture."""

    size: int
    """Tokens, or bytes: what was counted."""
    weight: float
    epochs: float
    share: float
    """Of all that is read."""
    worth: float
    """New text that would be worth as much, in the same unit as ``size``."""


@dataclass(frozen=True)
class Mixture:
    """How often each source is read, by its name, and what to beware of."""

    sources: dict[str, Share]
    warnings: tuple[str, ...]

    def card(self) -> dict[str, Any]:
        """The mixture as a data card tells it."""
        return {
            "sources": {
                name: {
                    "size": share.size,
                    "weight": share.weight,
                    "epochs": round(share.epochs, 4),
                    "share": round(share.share, 4),
                    "worth": round(share.worth),
                }
                for name, share in self.sources.items()
            },
            "warnings": list(self.warnings),
        }


def plan(
    sizes: Mapping[str, int], weights: Mapping[str, float], *, default: float = 1.0, total: float | None = None
) -> Mixture:
    """Epochs of each source.

    Args:
        sizes: tokens or bytes of each source.
        weights: of the sources that are not to weigh ``default``; 0 leaves a source out.
        default: the weight of all others.
        total: how much is to be read in all, in the unit of ``sizes``; None: one epoch for a weight of 1.

    Raises:
        SettingsError: a weight below zero, one for a source that there is not, or nothing left to read.
    """
    for name, weight in weights.items():
        if name not in sizes:
            raise SettingsError(f"weights: no source {name!r}: there are {', '.join(sorted(sizes)) or 'none'}")
        if not math.isfinite(weight) or weight < 0:
            raise SettingsError(f"weights: {name}: {weight:g}: give 0 or more")
    asked = {name: float(weights.get(name, default)) for name in sorted(sizes)}
    read = sum(asked[name] * sizes[name] for name in asked)
    if read <= 0:
        raise SettingsError("weights: nothing is left to read: give at least one source a weight above 0")
    scale = 1.0 if total is None else total / read
    shares: dict[str, Share] = {}
    for name, weight in asked.items():
        epochs = weight * scale
        beyond = max(0.0, epochs - 1)
        worth = sizes[name] * (min(epochs, 1.0) + WORTH * (1 - math.exp(-beyond / WORTH)))
        shares[name] = Share(sizes[name], weight, epochs, weight * sizes[name] / read, worth)
    warnings = tuple(
        f"{name} is read {share.epochs:.1f} times: past {MANY:g} epochs repeated text is worth ever less: "
        "find more of it, or lower its weight"
        for name, share in shares.items()
        if share.epochs > MANY
    )
    return Mixture(shares, warnings)
