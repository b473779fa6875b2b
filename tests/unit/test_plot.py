"""The pictures in docs/: current, reproducible, and with round numbers on their axes."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.simulation import plot
from tests.unit.shared import TOP


@pytest.mark.parametrize("name", ["autoscaler-step", "autoscaler-replay"])
def test_what_a_bench_recorded_is_drawn_as_the_document_shows_it(name: str, tmp_path: Path) -> None:
    record, drawn = TOP / "docs" / f"{name}.json", tmp_path / "drawn.svg"
    plot.main([str(record), str(drawn)])
    assert drawn.read_bytes() == record.with_suffix(".svg").read_bytes(), (
        f"docs/{name}.svg is not current: python -m tests.simulation.plot docs/{name}.json docs/{name}.svg"
    )


@pytest.mark.parametrize("name", ["autoscaler-step", "autoscaler-replay", "autoscaler-simulation"])
def test_a_picture_holds_no_date_and_nothing_of_the_machine(name: str) -> None:
    text = (TOP / "docs" / f"{name}.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"<dc:(date|creator)>|20\d\d-\d\d-\d\d|/home/", text)


def drawn(chart: plot.Chart) -> Axes:
    axes = Figure(layout="constrained").subplots()
    plot.draw(axes, chart)
    return axes


@pytest.mark.parametrize(
    ("seconds", "label", "ticks"),
    [
        (390.8, "time (s)", [0, 50, 100, 150, 200, 250, 300, 350, 400]),
        (2399, "time (min)", [0, 5, 10, 15, 20, 25, 30, 35, 40]),
        (7199, "time (min)", [0, 20, 40, 60, 80, 100, 120]),
        (86399, "time (h)", [0, 3, 6, 9, 12, 15, 18, 21, 24]),
    ],
)
def test_the_time_axis_has_round_ticks_up_to_its_end(seconds: float, label: str, ticks: list[float]) -> None:
    with plot.style():
        axes = drawn(plot.Chart("x", [(0.0, 5.0), (seconds, 60.0)], [plot.Steps("y", [(0.0, 20.0), (seconds, 20.0)])]))
        assert axes.get_xlabel() == label
        assert list(axes.get_xticks()) == pytest.approx(ticks)
        assert axes.get_xlim() == pytest.approx((ticks[0], ticks[-1]))
        assert axes.get_ylim()[0] == 0


def test_every_line_is_in_the_legend_with_a_style_of_its_own() -> None:
    names = ["a", "b", "c", "d"]
    with plot.style():
        axes = drawn(
            plot.Chart("x", [(0.0, 1.0), (9.0, 2.0)], [plot.Steps(n, [(0.0, 1.0), (9.0, 1.0)]) for n in names])
        )
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["rate", *names]
        assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 5


def test_more_lines_than_styles_are_refused() -> None:
    lines = [plot.Steps(str(n), [(0.0, 1.0)]) for n in range(len(plot.STYLES) + 1)]
    with plot.style(), pytest.raises(ValueError, match="4 capacities at most, not 5"):
        drawn(plot.Chart("x", [(0.0, 1.0)], lines))
