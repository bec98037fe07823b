"""The geometry of the report's curves: paths and ticks in a square of 1000, which the page stretches to its width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

SIDE = 1000
POINTS = 180
"""Points of a curve, at most: longer ones are averaged."""
FLOAT = NDArray[numpy.float64]

Series = Sequence[tuple[float, float]]
"""(step, value), in order."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the upright axis: its place in per cent from above, and its label."""

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One curve, ready to draw."""

    title: str
    unit: str
    latest: str
    """The mean over the last tenth of the steps, as text."""
    raw: str
    """SVG path of the values."""
    smooth: str
    """SVG path of their running mean; empty for short ones."""
    held_out: str
    """SVG path of the same on held-out data; may be empty."""
    heights: tuple[Tick, ...]
    steps: tuple[str, str]
    """The first and the last step, as text."""


def plot(title: str, unit: str, series: Series, held_out: Series = ()) -> Plot:
    """A curve of (step, value), with the held-out one if there is one."""
    steps, values = _averaged(series)
    other_steps, other = _averaged(held_out)
    smooth = _running_mean(values) if len(values) >= 24 else values[:0]
    shown = numpy.concatenate([numpy.quantile(values, [0.01, 0.99]), smooth, other])
    low, high, heights = axis(float(shown.min()), float(shown.max()))
    ends = [step for points in (series, held_out) for step, _ in points]
    first, last = min(ends), max(ends)
    span = max(last - first, 1e-12)

    def path(steps: FLOAT, values: FLOAT) -> str:
        across = numpy.rint((steps - first) / span * SIDE).astype(int)
        down = numpy.rint((1 - numpy.clip((values - low) / (high - low), 0, 1)) * SIDE).astype(int)
        return "M" + "L".join(f"{x} {y}" for x, y in zip(across, down, strict=True)) if len(values) else ""

    return Plot(
        title=title,
        unit=unit,
        latest=number(final(series)),
        raw=path(steps, values),
        smooth=path(steps, smooth) if len(smooth) else "",
        held_out=path(other_steps, other),
        heights=tuple(Tick(round(100 * (1 - (h - low) / (high - low)), 2), number(h)) for h in heights),
        steps=(f"{first:,.0f}", f"{last:,.0f}"),
    )


def final(series: Series) -> float:
    """Where a curve ends: the mean over its last tenth, one value at least."""
    values = [value for _, value in series[-max(1, len(series) // 10) :]]
    return math.fsum(values) / len(values)


def axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """(low, high, ticks): bounds that hold both, and two to six round numbers between them."""
    if high - low <= 1e-9 * max(abs(low), abs(high)) or high == low:
        reach = abs(low) * 0.5 or 1.0
        low, high = low - reach, high + reach
    margin = 0.06 * (high - low)
    bottom = 0.0 if 0 <= low < 0.3 * high else low - margin
    top = high + margin
    raw = (top - bottom) / 4.5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    start = math.ceil(bottom / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(start, start + 6) if i * step <= top + 1e-9 * step]
    return bottom, top, ticks


def number(value: float) -> str:
    """Three significant digits, as people write them: 12,300; 0.482; 2.4 × 10⁻⁴."""
    if not math.isfinite(value):
        return "not a number"
    if value < 0:
        return "−" + number(-value)
    size = value
    if size == 0 or size >= 1000 or (value == int(value) and size < 1000):
        return f"{value:,.0f}" if size < 1e6 else f"{size / 1e6:,.3g} M"
    if size < 1e-3:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')} × 10{str(int(power)).translate(_RAISED)}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}".rstrip("0").rstrip(".")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _averaged(series: Series) -> tuple[FLOAT, FLOAT]:
    """Steps and values, neighbours averaged until there are few enough."""
    points = numpy.array(series, dtype=float).reshape(-1, 2)
    if len(points) > POINTS:
        parts = numpy.array_split(points, POINTS)
        points = numpy.array([part.mean(0) for part in parts])
    return points[:, 0], points[:, 1]


def _running_mean(values: FLOAT) -> FLOAT:
    """The mean of a window of a ninth of the curve around each point; less reaches back where the curve begins."""
    reach = max(1, len(values) // 18)
    sums = numpy.concatenate([[0.0], numpy.cumsum(values)])
    places = numpy.arange(len(values))
    back = numpy.minimum(reach, places)
    ahead = numpy.minimum(back, len(values) - 1 - places)
    return (sums[places + ahead + 1] - sums[places - back]) / (back + ahead + 1)
