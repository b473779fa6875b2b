"""Line charts as SVG text, for a page that loads nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Optional

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 24
# Petroff's colours, distinct under the common colour-vision deficiencies; the dashes are for black and white.
STYLES = (("#5790fc", ""), ("#e42536", "6 3"), ("#f89c20", "2 3"), ("#964a8b", "8 3 2 3"))

Points = Sequence[tuple[float, Optional[float]]]


@dataclass(frozen=True)
class Line:
    """(time in seconds since 1970, value); None where there was none, which breaks the line."""

    name: str
    points: Points


def ticks(highest: float, most: int = 4) -> list[float]:
    """Round values from 0 to at least `highest`."""
    rough = (highest if highest > 0 else 1.0) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [
        round(step * index, 10) for index in range(math.ceil(highest / step - 1e-9) + 1 if highest > 0 else most + 1)
    ]


def runs(points: Points) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line without a gap."""
    part: list[tuple[float, float]] = []
    for at, value in points:
        if value is not None and math.isfinite(value):
            part.append((at, value))
        elif part:
            yield part
            part = []
    if part:
        yield part


def chart(title: str, unit: str, lines: Sequence[Line], start: float, end: float) -> str:
    """The lines from start to end, on one axis from 0.

    Raises:
        ValueError: it has more lines than there are styles.
    """
    if len(lines) > len(STYLES):
        raise ValueError(f"{title}: {len(STYLES)} lines at most, not {len(lines)}")
    values = [value for line in lines for part in runs(line.points) for _, value in part]
    marks = ticks(max(values, default=0.0))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(at: float) -> float:
        return LEFT + (at - start) / (end - start) * (right - LEFT)

    def y(value: float) -> float:
        return bottom - value / marks[-1] * (bottom - TOP)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}, {unit}")}">',
        *(_mark(y(value), f"{value:g}", right) for value in marks),
        *(_hour(x(at), at, bottom) for at in _hours(start, end)),
    ]
    for line, (color, dashes) in zip(lines, STYLES):
        for part in runs(line.points):
            # A single point is a line without a length, which its round ends show.
            drawn = part if len(part) > 1 else part * 2
            points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in drawn if start <= at <= end)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" stroke-linecap="round" '
                f'stroke-linejoin="round" stroke-dasharray="{dashes}"><title>{escape(line.name)}</title></polyline>'
            )
    if not values:
        parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT / 2}" text-anchor="middle">no data</text>')
    return "".join((*parts, "</svg>"))


def legend(lines: Sequence[Line]) -> str:
    """The lines' names beside their strokes, as HTML."""
    keys = []
    for line, (color, dashes) in zip(lines, STYLES):
        stroke = f'stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"'
        drawn = f'<svg viewBox="0 0 28 8" aria-hidden="true"><line x1="1" y1="4" x2="27" y2="4" {stroke}/></svg>'
        keys.append(f'<span class="key">{drawn}{escape(line.name)}</span>')
    return "".join(keys)


def _mark(y: float, label: str, right: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _hour(x: float, at: float, bottom: float) -> str:
    label = time.strftime("%H:%M", time.gmtime(at))
    return f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'


def _hours(start: float, end: float) -> Iterator[float]:
    """Full hours, about eight, none of them at the very edge."""
    step = next(hours for hours in (1, 2, 3, 6, 12, 24, 48) if (end - start) / 3600 / hours <= 8) * 3600
    at = math.ceil(start / step) * step
    while at <= end - step / 4:
        if at >= start + step / 4:
            yield at
        at += step
