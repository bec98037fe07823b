"""The card's pictures, as SVG that takes its colours from the page: so they are right in the light and in the dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 1000


def river(read: int, steps: Sequence[tuple[str, int]]) -> str:
    """What was read flows from left to right; what a step takes leaves downwards, as wide as it is much.

    Args:
        steps: (name, documents that go) in order.
    """
    steps = [step for step in steps if step[1]]
    if not read or not steps:
        return ""
    top, depth, left, right = 8.0, 170.0, 96.0, 900.0
    width = (right - left) / len(steps)
    outline, falls, labels = [f"M{left} {top}V{top + depth:.1f}"], "", ""
    remaining, x = read, left
    for place, (name, gone) in enumerate(steps):
        # Names of many steps stand in two rows, so that none covers another.
        lower = 40 * (place % 2) if len(steps) > 7 else 0
        before, after = top + depth * remaining / read, top + depth * (remaining - gone) / read
        # At least a hair's breadth: what is there should be seen.
        thick = max(before - after, 1.5)
        inner, foot = x + width * 0.42, top + depth + 44 + lower
        outer, bend = inner + thick, 14 + thick
        falls += (
            f'<path class="gone" d="M{x:.1f} {before:.1f}H{inner - bend:.1f}Q{inner:.1f} {before:.1f} {inner:.1f} '
            f"{before + bend:.1f}V{foot}H{outer:.1f}V{before + bend - thick:.1f}Q{outer:.1f} {after:.1f} "
            f'{outer - bend:.1f} {after:.1f}H{x:.1f}Z"><title>{escape(name)}: {gone:,}</title></path>'
        )
        labels += (
            f'<text class="step" x="{inner + thick / 2:.1f}" y="{foot + 18}" text-anchor="middle">{escape(name)}</text>'
            f'<text class="many" x="{inner + thick / 2:.1f}" y="{foot + 37}" text-anchor="middle">{gone:,}</text>'
        )
        remaining -= gone
        outline.append(f"H{x:.1f}V{after:.1f}H{x + width:.1f}")
        x += width
    shape = "".join(outline) + f"V{top}Z"
    ends = (
        f'<rect class="end" x="{left - 8}" y="{top}" width="8" height="{depth}"/>'
        f'<rect class="end" x="{right}" y="{top}" width="8" height="{max(depth * remaining / read, 1):.1f}"/>'
        f'<text class="count" x="{left - 18}" y="{top + 20}" text-anchor="end">{read:,}</text>'
        f'<text class="word" x="{left - 18}" y="{top + 38}" text-anchor="end">read</text>'
        f'<text class="count" x="{right + 18}" y="{top + 20}">{remaining:,}</text>'
        f'<text class="word" x="{right + 18}" y="{top + 38}">kept</text>'
    )
    inside = f'<path class="kept" d="{shape}"/>{falls}{ends}{labels}'
    return _svg(
        WIDTH,
        int(top + depth + 86 + (40 if len(steps) > 7 else 0)),
        "river",
        inside,
        "What each step took from what was read",
    )


def columns(series: Sequence[tuple[str, Sequence[int]]], labels: Sequence[str], title: str) -> str:
    """Columns side by side, stacked by series; ``labels`` stand under the edges between them."""
    totals = [sum(counts[place] for _, counts in series) for place in range(len(labels) - 1)]
    most = max(totals, default=0)
    if not most:
        return ""
    height, bottom = 170.0, 200.0
    step = (WIDTH / 2 - 20) / len(totals)
    parts: list[str] = []
    for place, total in enumerate(totals):
        y = bottom
        for number, (name, counts) in enumerate(series):
            tall = height * counts[place] / most
            y -= tall
            if tall:
                parts.append(
                    f'<rect class="c{number % 6}" x="{10 + place * step + 1:.1f}" y="{y:.1f}" '
                    f'width="{step - 2:.1f}" height="{tall:.1f}"><title>{escape(name)}, '
                    f"{escape(labels[place])} to {escape(labels[place + 1])}: {counts[place]:,}</title></rect>"
                )
        if place % max(1, len(totals) // 7) == 0:
            parts.append(f'<text x="{10 + place * step:.1f}" y="{bottom + 18}">{escape(labels[place])}</text>')
        del total
    parts.append(f'<path class="line" d="M10 {bottom + 0.5}H{WIDTH / 2 - 10}"/>')
    return _svg(WIDTH // 2, 226, "columns", "".join(parts), title)


def histogram(counts: Sequence[int], marks: Sequence[float], title: str) -> str:
    """A small histogram on a logarithmic height, with the bounds as upright lines (0 to 1 across)."""
    most = max(counts, default=0)
    if not most:
        return ""
    wide, height = 240.0, 58.0
    step = wide / len(counts)
    parts = [
        f'<rect class="c0" x="{place * step:.1f}" y="{height - tall:.1f}" width="{max(step - 0.6, 0.6):.1f}" '
        f'height="{tall:.1f}"/>'
        for place, count in enumerate(counts)
        if (tall := height * math.log1p(count) / math.log1p(most))
    ]
    parts += [f'<path class="bound" d="M{wide * mark:.1f} 0V{height + 4}"/>' for mark in marks if 0 <= mark <= 1]
    parts.append(f'<path class="line" d="M0 {height + 0.5}H{wide}"/>')
    return _svg(int(wide), int(height) + 6, "histogram", "".join(parts), title)


def short(count: float) -> str:
    """A round number as people say it: 512, 16 k, 2 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def _svg(width: int, height: int, kind: str, inside: str, title: str) -> str:
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{inside}</svg>'
