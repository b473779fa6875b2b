"""Line charts as SVG, without a library."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 44, 34
COLOURS = ("#9aa0a6", "#d1495b", "#2e86ab", "#3d9970", "#b5651d", "#6a4c93")
POINTS = 240


@dataclass(frozen=True)
class Line:
    """A named series of (time in seconds, value)."""

    name: str
    points: Sequence[tuple[float, float]]
    stepped: bool = False


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """No more points than an eye tells apart: of each group the one that is farthest from the group's first."""
    if len(points) <= POINTS:
        return points
    size = len(points) / POINTS
    groups = (points[int(n * size) : int((n + 1) * size)] for n in range(POINTS))
    return [max(group, key=lambda point: abs(point[1] - group[0][1])) for group in groups if group]


def chart(title: str, lines: Sequence[Line], unit: str) -> str:
    """One chart; all lines share the axes."""
    far = max((point[0] for line in lines for point in line.points), default=1.0) or 1.0
    high = max((point[1] for line in lines for point in line.points), default=1.0) * 1.08 or 1.0

    def x(value: float) -> float:
        return round(LEFT + value / far * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / high * (HEIGHT - TOP - BOTTOM), 1)

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>']
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        level = high / 1.08 * fraction
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level)}" y2="{y(level)}" stroke="#e0e0e0"/>'
            f'<text x="{LEFT - 6}" y="{y(level) + 4}" text-anchor="end">{level:.4g}</text>'
            f'<text x="{x(far * fraction)}" y="{HEIGHT - 14}" text-anchor="middle">{_time(far * fraction)}</text>'
        )
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path: list[str] = []
        before = 0.0
        for at, value in _thinned(line.points):
            if line.stepped and path:
                path.append(f"{x(at)},{y(before)}")
            path.append(f"{x(at)},{y(value)}")
            before = value
        parts.append(f'<polyline points="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT - 130 * (len(lines) - 1 - number)}" y="32" text-anchor="end" '
            f'fill="{colour}">{escape(line.name)}</text>'
        )
    parts.append(f'<text x="12" y="{HEIGHT / 2}" transform="rotate(-90 12 {HEIGHT / 2})" '
                 f'text-anchor="middle">{escape(unit)}</text>')  # fmt: skip
    return "\n".join(parts)


def _time(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 60:.3g} min" if seconds >= 300 else f"{seconds:.3g} s"


def page(charts: Sequence[str]) -> str:
    """Charts one below the other, as an SVG file."""
    rows = "\n".join(f'<g transform="translate(0 {number * HEIGHT})">{one}</g>' for number, one in enumerate(charts))
    height = HEIGHT * len(charts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n{rows}\n</svg>\n'
    )
