"""The picture of a result: the ratios as bars, and beside them the losses of all sides laid over each other."""

from __future__ import annotations

from html import escape
from typing import Any

from arithmetic import Curve, by_tokens

from tutelage.evaluation import charts

COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f6000", "#7030a0", "#a61c3c", "#404040")
WIDTH, LABELS, BARS, LOSSES = 1000, 210, 210, 440
LINE = 34


def draw(result: dict[str, Any]) -> str:
    """SVG, one panel for each contest."""
    panels: list[str] = []
    top = 10
    for name, contest in result["contests"].items():
        rows = [row for row in result["rows"] if row["benchmark"] == name]
        height = max(190, 60 + LINE * len(rows))
        panels.append(f'<g transform="translate(0 {top})">{_panel(name, rows, contest["curves"], height)}</g>')
        top += height + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>{"".join(panels)}</svg>\n'
    )


def _panel(name: str, rows: list[dict[str, Any]], curves: dict[str, Curve], height: int) -> str:
    parts = [_text(10, 16, f"{name}: speed, ours = 1", weight="bold")]
    speeds = [1 / row["ratio"] for row in rows]
    longest = max(1 / row["range"][0] for row in rows)
    for place, (row, speed) in enumerate(zip(rows, speeds, strict=True)):
        y, colour = 36 + LINE * place, COLOURS[place % len(COLOURS)]
        low, high = (LABELS + BARS * (1 / end) / longest for end in reversed(row["range"]))
        parts.append(_text(10, y + 13, row["side"]))
        parts.append(
            f'<rect x="{LABELS}" y="{y}" width="{BARS * speed / longest:.1f}" height="18" fill="{colour}"/>'
            f'<path d="M{low:.1f} {y + 9}H{high:.1f}" stroke="#000000" stroke-width="1.5"/>'
        )
        parts.append(_text(LABELS + BARS + 12, y + 13, f"{speed:.2f}"))
    drawn = {side: by_tokens(curve) for side, curve in curves.items() if curve}
    if drawn:
        parts.append(_losses(drawn, [row["side"] for row in rows], height))
    return "".join(parts)


def _losses(curves: dict[str, list[tuple[float, float]]], sides: list[str], height: int) -> str:
    """All losses over the tokens read, to where the second longest ends."""
    ends = sorted((curve[-1][0] for curve in curves.values()), reverse=True)
    last = ends[min(1, len(ends) - 1)]
    shown = {side: [point for point in curve if point[0] <= last] for side, curve in curves.items()}
    values = [loss for curve in shown.values() for _, loss in curve]
    low, high, ticks = charts.axis(min(values), max(values))
    left, bottom = WIDTH - LOSSES, height - 24

    def across(tokens: float) -> float:
        return left + (LOSSES - 20) * tokens / last

    def down(loss: float) -> float:
        return 26 + (bottom - 26) * (high - loss) / (high - low)

    parts = [_text(left, 16, "loss by tokens read", weight="bold")]
    for tick in ticks:
        parts.append(f'<path d="M{left} {down(tick):.1f}H{WIDTH - 20}" stroke="#dddddd"/>')
        parts.append(_text(left - 6, down(tick) + 4, charts.number(tick), anchor="end"))
    for side, curve in shown.items():
        colour = COLOURS[sides.index(side) % len(COLOURS)]
        path = "M" + "L".join(f"{across(tokens):.1f} {down(loss):.1f}" for tokens, loss in curve)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    parts.append(_text(left, height - 6, "0"))
    parts.append(_text(WIDTH - 20, height - 6, charts.number(last), anchor="end"))
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
