"""`plan`: how large a model this machine pretrains in the time there is, from a measurement of three seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tutelage import settings
from tutelage.stages import pretrain
from tutelage.training import pace

LADDER = (
    (64, 2), (96, 3), (128, 4), (192, 4), (256, 6), (384, 6), (512, 8), (640, 10), (768, 12), (1024, 16), (1536, 24),
    (2048, 24),
)  # fmt: skip
"""Widths and numbers of blocks to choose among."""
PER_PARAMETER = 20
"""Tokens for each parameter that make the most of a given amount of computing.

Source: Hoffmann et al. 2022, arXiv 2203.15556, table 3; found on web text, for models of 70 million parameters and
more.
"""
MEASURED = 3.0
"""Seconds that are measured."""
SHOWN = 3
"""Sizes shown below the best one, and above it."""
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What there is, and what is to be trained with it."""

    hours: Annotated[float, Field(gt=0)] = 1 / 3
    memory: Annotated[float, Field(gt=0)] | None = None
    """GiB; the free memory if not given."""
    vocab_size: Annotated[int, Field(gt=0)] = 4096
    architecture: str = "qwen3"
    optimizer: Literal["adamw", "muon"] = "adamw"
    max_length: Annotated[int, Field(gt=1)] = 512
    batch_tokens: Annotated[int, Field(gt=0)] = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A size of model, and what becomes of it within the budget."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    parameters: int
    without_embeddings: int
    measured: bool
    """Whether real steps of this very size were timed, or of a smaller one."""
    tokens_per_second: float
    share: float
    """Of the matrix product's speed that a row of tokens reaches."""
    tokens: int
    """In the time there is."""
    tokens_per_parameter: float
    hours: float
    """For `PER_PARAMETER` tokens for each parameter."""
    memory: int
    """Bytes for weights, gradients, optimizer and activations."""
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sizes around the best one."""

    budget: Budget
    machine: pace.Machine
    memory: int
    """Bytes."""
    rows: tuple[Row, ...]
    best: int | None
    """The place of the best size in rows; None if none fits in the memory."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A size of model, made by pretrain's own recipe."""

    recipe: pretrain.Recipe
    config: Any
    """The architecture's, for transformers."""
    size: pace.Size


def plan(budget: Budget) -> Plan:
    """Measures this machine and lays out what it can do.

    The smallest size is measured first, then those nearest to the best one, until `MEASURED` seconds are over.

    Raises:
        SettingsError: a setting that pretrain refuses.
        ModelError: an architecture that is not supported.
    """
    sizes = [counted(budget, width, blocks) for width, blocks in LADDER]
    end = time.monotonic() + MEASURED
    machine = pace.machine()
    memory = round(budget.memory * GIB) if budget.memory else machine.free
    measured: dict[int, pace.Steps] = {}
    rows: list[Row] = []
    chosen: tuple[int, int] | None = (0, row_lengths(sizes[0])[0])
    while chosen is not None:
        place, tokens = chosen
        one, left = sizes[place], max(0.0, end - time.monotonic())
        measured[place] = pace.steps(one.config, one.recipe, one.recipe.max_length, tokens, min(0.25, left / 4))
        rows = [row(n, sizes, measured, budget.hours, machine.product, memory) for n in range(len(sizes))]
        chosen = following(rows, sizes, machine, end - time.monotonic())
    near, best = around(rows)
    return Plan(budget=budget, machine=machine, memory=memory, rows=tuple(near), best=best)


def counted(budget: Budget, width: int, blocks: int) -> Counted:
    """A size, counted without making its weights.

    Raises:
        SettingsError: a setting that pretrain refuses.
    """
    values = {
        "documents": Path("prepare"),
        "tokenizer": Path("tokenizer"),
        "architecture": budget.architecture,
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": max(4, width // 64),
        "max_length": budget.max_length,
        "batch_tokens": budget.batch_tokens,
        "optimizer": budget.optimizer,
    }
    recipe = settings.check(pretrain.Recipe, values, "tutelage plan")
    config = pretrain.configured(recipe, budget.vocab_size, None)
    return Counted(recipe, config, pace.size(config, recipe, recipe.max_length))


def following(
    rows: Sequence[Row], sizes: Sequence[Counted], machine: pace.Machine, left: float
) -> tuple[int, int] | None:
    """The place of the size to measure next, and the tokens of a row: the nearest to the best one that ``left`` seconds
    and the free memory allow."""
    centre = best_of(rows)
    for place in sorted(range(len(rows)), key=lambda n: (abs(n - centre), n)):
        found = rows[place]
        if found.measured or abs(place - centre) > SHOWN or found.memory > machine.free:
            continue
        for tokens in row_lengths(sizes[place]):
            # Two rows for warming up, one and a half to measure, and the making of the weights.
            if 4 * tokens / found.tokens_per_second < left:
                return place, tokens
    return None


def row_lengths(one: Counted) -> tuple[int, int]:
    """Tokens of a row as pretrain computes it, and of the shortest that tells how fast it goes."""
    return max(one.recipe.max_batch_tokens, one.recipe.max_length), one.recipe.max_length


def timed(place: int, sizes: Sequence[Counted], measured: Mapping[int, pace.Steps], product: float) -> pace.Steps:
    """Steps of a size: its own, or reckoned from the nearest measured one.

    Matrix products grow with the work; the time that is left when they go at full speed, with width by blocks.
    """
    nearest = min(measured, key=lambda n: (abs(n - place), n))
    steps, one, other = measured[nearest], sizes[place], sizes[nearest]
    wider = one.recipe.hidden_size / other.recipe.hidden_size
    deeper = one.recipe.num_hidden_layers / other.recipe.num_hidden_layers
    rest = max(0.0, steps.token - other.size.work / product)
    blocks = (one.recipe.num_hidden_layers + 1) / (other.recipe.num_hidden_layers + 1)
    # AdamW looks at each weight; Muon multiplies hidden matrices with themselves.
    updating = wider**3 * deeper if one.recipe.optimizer == "muon" else one.size.parameters / other.size.parameters
    return pace.Steps(
        token=(steps.token - rest) * one.size.work / other.size.work + rest * wider * deeper,
        update=steps.update * updating,
        activations=round(steps.activations * wider * blocks),
        logits=steps.logits,
    )


def row(
    place: int, sizes: Sequence[Counted], measured: Mapping[int, pace.Steps], hours: float, product: float, memory: int
) -> Row:
    """What becomes of a size in so many hours and so many bytes."""
    recipe, size = sizes[place].recipe, sizes[place].size
    steps = timed(place, sizes, measured, product)
    speed = recipe.batch_tokens / (recipe.batch_tokens * steps.token + steps.update)
    tokens = round(hours * 3600 * speed)
    held = size.weights + size.gradients + size.optimizer + steps.activations * recipe.max_batch_tokens + steps.logits
    return Row(
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_hidden_layers,
        num_attention_heads=recipe.num_attention_heads,
        parameters=size.parameters,
        without_embeddings=size.parameters - size.embeddings,
        measured=place in measured,
        tokens_per_second=speed,
        share=size.work / steps.token / product,
        tokens=tokens,
        tokens_per_parameter=tokens / size.parameters,
        hours=PER_PARAMETER * size.parameters / speed / 3600,
        memory=held,
        fits=held <= memory,
    )


def best_of(rows: Sequence[Row]) -> int:
    """The place of the size that fits and whose tokens for each parameter are nearest to `PER_PARAMETER`; 0 if none."""
    fitting = [place for place, found in enumerate(rows) if found.fits] or [0]
    return min(fitting, key=lambda place: abs(math.log(max(1e-9, rows[place].tokens_per_parameter) / PER_PARAMETER)))


def around(rows: Sequence[Row]) -> tuple[Sequence[Row], int | None]:
    """The rows near the best one, and its place in them; None if none fits."""
    best = best_of(rows)
    first = max(0, best - SHOWN)
    return rows[first : best + SHOWN + 1], best - first if rows[best].fits else None


def shown(plan: Plan) -> Group:
    """A plan for `rich`: the machine, a table, and the lines of a course."""
    machine, hours = plan.machine, plan.budget.hours
    head = (
        f"{machine.device}: {machine.product / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{machine.copying / 1e9:.0f} GB/s in a copy, {plan.memory / GIB:.1f} GiB of memory"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in (
        "size",
        "weights",
        "inside",
        "tokens/s",
        "share",
        "tokens",
        "each",
        f"for {PER_PARAMETER}",
        "memory",
    ):
        table.add_column(heading, header_style="dim", justify="left" if heading == "size" else "right", no_wrap=True)
    for place, one in enumerate(plan.rows):
        table.add_row(
            f"{one.hidden_size} x {one.num_hidden_layers}",
            in_units(one.parameters),
            in_units(one.without_embeddings),
            ("" if one.measured else "~") + f"{one.tokens_per_second:,.0f}",
            f"{one.share:.0%}",
            in_units(one.tokens),
            f"{one.tokens_per_parameter:.3g}",
            in_time(one.hours),
            in_bytes(one.memory),
            style="bold" if place == plan.best else None if one.fits else "dim",
        )
    legend = [
        "size: width by blocks; weights: parameters, inside: without embeddings;",
        "share: of the matrix product's speed that a row reaches;",
        f"tokens: in {in_time(hours)}; each: for each parameter; for {PER_PARAMETER}: time until there are so many",
    ]
    if any(not one.measured for one in plan.rows):
        legend.append("~ not measured: reckoned from the nearest size that was")
    if any(not one.fits for one in plan.rows):
        legend.append("dim: too large for the memory")
    parts: list[Text | Table] = [Text(head), Text(), table, Text("\n".join(["", *legend, ""]), "dim")]
    if plan.best is None:
        parts.append(
            Text("none of them fits in the memory: give more by --memory, or a smaller --vocab-size", "yellow")
        )
    else:
        parts.append(Text(f"Nearest to {PER_PARAMETER} tokens for each parameter, as a course writes it:\n"))
        parts.append(Text("\n".join(lines(plan.budget, plan.rows[plan.best]))))
    return Group(*parts)


def lines(budget: Budget, best: Row) -> list[str]:
    """What to write in a course file for a size."""
    values = {
        "documents": "prepare",
        "tokenizer": "tokenizer",
        "architecture": budget.architecture,
        "hidden_size": best.hidden_size,
        "num_hidden_layers": best.num_hidden_layers,
        "num_attention_heads": best.num_attention_heads,
        "max_length": budget.max_length,
        "batch_tokens": budget.batch_tokens,
        "max_tokens": f"{rounded(best.tokens):_}",
        "optimizer": budget.optimizer,
    }
    return ["  pretrain:", *(f"    {key}: {value}" for key, value in values.items())]


def rounded(number: int) -> int:
    """To two digits, downwards."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit


def in_units(number: int) -> str:
    """A count in three digits: 1.38 M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {letter}"
    return str(number)


def in_bytes(number: int) -> str:
    """MiB or GiB."""
    return f"{number / GIB:.3g} GiB" if number >= GIB else f"{number / 2**20:.0f} MiB"


def in_time(hours: float) -> str:
    """Minutes, hours or days."""
    minutes = hours * 60
    if minutes < 100:
        return f"{minutes:.2g} min" if minutes < 10 else f"{minutes:.0f} min"
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} days"
