"""Evaluates alarms as Netdata does: the part of its language for them that roles/alerting uses.

https://learn.netdata.cloud/docs/alerts-&-notifications/alert-configuration-reference. `lookup` reduces a
dimension's recent values to $this, `calc` computes on, `warn` and `crit` decide, and `delay` holds a clear back. Values
are NaN where there are none, with which every comparison is false.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any

CLEAR, WARNING, CRITICAL = 0, 1, 2
STATUSES = {"CLEAR": CLEAR, "WARNING": WARNING, "CRITICAL": CRITICAL}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
KNOWN = {"template", "on", "lookup", "calc", "units", "every", "warn", "crit", "delay", "info", "to"}


def blocks(text: str) -> Iterator[dict[str, str]]:
    """The fields of each template of a file of health.d."""
    for block in re.split(r"\n(?= *template:)", text):
        fields = dict(re.findall(r"^ *(\w+): *(.*)$", block, re.MULTILINE))
        if "template" in fields:
            yield fields


def seconds(text: str) -> int:
    """A duration: "-60s" is -60, "24h" 86400."""
    found = re.fullmatch(r"([+-]?\d+)([smhd]?)", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration")
    return int(found[1]) * SECONDS[found[2]]


REDUCTIONS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "average": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
}


@dataclass(frozen=True)
class Lookup:
    """What of a chart's history $this is: the dimensions' sum, reduced over `length` seconds that ended `ago`."""

    method: str
    length: int
    ago: int
    dimensions: Sequence[str]

    @staticmethod
    def read(text: str) -> Lookup:
        words = text.split()
        method, after, rest = words[0], words[1], words[2:]
        ago = 0
        if rest[:1] == ["at"]:
            ago, rest = -seconds(rest[1]), rest[2:]
        dimensions: Sequence[str] = ()
        if "of" in rest:
            dimensions = rest[rest.index("of") + 1].split(",")
            rest = rest[: rest.index("of")]
        if unknown := set(rest) - {"unaligned"} or {method} - set(REDUCTIONS):
            raise ValueError(f"lookup: {text}: {sorted(unknown)} is not known here")
        return Lookup(method, -seconds(after), ago, dimensions)


class Translator(ast.NodeTransformer):
    """Of Python's expression as Netdata's: what divides by zero is NaN."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            call = ast.Call(ast.Name("divide", ast.Load()), [node.left, node.right], [])
            return ast.copy_location(call, node)
        return node


def divide(one: float, other: float) -> float:
    return one / other if other else math.nan


def compiled(text: str) -> CodeType:
    """An expression of Netdata's, to be evaluated with `value` and `divide`.

    Raises:
        SyntaxError: it uses what is not known here.
    """
    python = re.sub(r"\$\{?(CLEAR|WARNING|CRITICAL)\b\}?", lambda found: str(STATUSES[found[1]]), text)
    python = re.sub(r"\$\{?([a-zA-Z_][\w.]*)\}?", r'value("\1")', python)
    python = re.sub(r"\bAND\b|&&", " and ", python)
    python = re.sub(r"\bOR\b|\|\|", " or ", python)
    python = re.sub(r"!= *nan\b", "== $SAME", python)
    # The only number that differs from itself.
    python = re.sub(r'(value\("[\w.]+"\)) *== \$SAME', r"(\1 == \1)", python)
    python = _ternaries(python)
    tree = ast.fix_missing_locations(Translator().visit(ast.parse(python.strip(), mode="eval")))
    return compile(tree, text, "eval")


def _ternaries(text: str) -> str:
    """Replace each C-like `a ? b : c`, whose parts are in parentheses where they have operators, by Python's."""
    while "?" in text:
        at = text.index("?")
        colon = text.index(":", _operand(text, at, 1))
        start, end = _operand(text, at, -1), _operand(text, colon, 1)
        condition, yes, no = text[start:at], text[at + 1 : colon], text[colon + 1 : end]
        text = f"{text[:start]}(({yes}) if ({condition}) else ({no})){text[end:]}"
    return text


def _operand(text: str, at: int, step: int) -> int:
    """The end of the operand after (step 1) or before (-1) an operator: of a parenthesis, or of what is open around."""
    depth, index = 0, at + step
    opening, closing = ("(", ")") if step > 0 else (")", "(")
    while 0 <= index < len(text):
        if text[index] == opening:
            depth += 1
        elif text[index] == closing:
            if depth == 0:
                break
            depth -= 1
            if depth == 0:
                index += step
                break
        elif depth == 0 and step > 0 and text[index] == ":":
            break
        index += step
    return index if step > 0 else index + 1


@dataclass(frozen=True)
class Delay:
    """For how long a clear waits, and how that grows while the alarm flaps; in seconds."""

    down: float = 0.0
    multiplier: float = 1.0
    longest: float = 0.0

    @staticmethod
    def read(text: str) -> Delay:
        words = text.split()
        named = dict(zip(words[::2], words[1::2], strict=True))
        down = float(seconds(named.pop("down", "0s")))
        multiplier, longest = float(named.pop("multiplier", "1")), float(seconds(named.pop("max", "0s")))
        if named:
            raise ValueError(f"delay: {text}: {sorted(named)} is not known here")
        return Delay(down, multiplier, longest)


@dataclass(frozen=True)
class Alarm:
    name: str
    on: str
    lookup: Lookup | None
    calc: CodeType | None
    warn: CodeType | None
    crit: CodeType | None
    delay: Delay

    @staticmethod
    def read(fields: Mapping[str, str]) -> Alarm:
        if unknown := set(fields) - KNOWN:
            raise ValueError(f"{fields['template']}: {sorted(unknown)} is not known here")
        calc, warn, crit = (compiled(fields[name]) if name in fields else None for name in ("calc", "warn", "crit"))
        lookup = Lookup.read(fields["lookup"]) if "lookup" in fields else None
        return Alarm(fields["template"], fields["on"], lookup, calc, warn, crit, Delay.read(fields.get("delay", "")))


# The values of a chart's dimensions at a time.
Series = Callable[[float], Mapping[str, float]]


@dataclass
class Chart:
    """A chart of one host, as it would be filled; `id` names it for other charts' alarms."""

    id: str
    context: str
    series: Series
    host: str = "host"
    interval: int = 30
    history: dict[str, list[float]] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)  # the newest
    same: bool = False  # as the ones before

    def advance(self, now: float) -> None:
        values = self.series(now)
        self.same, self.values = values == self.values, values
        for name, value in values.items():
            if name in self.history:
                self.history[name].append(value)
            else:
                self.history[name] = [value]

    def latest(self, dimension: str) -> float:
        return self.history[dimension][-1] if dimension in self.history else math.nan

    def reduce(self, lookup: Lookup) -> float:
        """$this of a lookup; NaN before there is anything."""
        newest = len(next(iter(self.history.values()))) - lookup.ago // self.interval
        oldest = max(0, newest - max(1, lookup.length // self.interval))
        if newest <= 0:
            return math.nan
        names = lookup.dimensions or tuple(self.history)
        found = [self.history[name][oldest:newest] for name in names if name in self.history]
        if not found:
            return math.nan
        sums = found[0] if len(found) == 1 else [sum(values) for values in zip(*found, strict=True)]
        return REDUCTIONS[lookup.method](sums)


@dataclass(frozen=True)
class Raised:
    """One incident: from a first raise to the clear that Netdata sends."""

    at: float
    host: str
    chart: str
    alarm: str
    status: int
    value: float


@dataclass
class State:
    status: int = CLEAR
    value: float = math.nan
    calm: float = 0.0  # last raised at
    delay: float = 0.0  # of the next clear
    open: bool = False  # raised, and the clear not sent


@dataclass
class Watch:
    """An alarm on one chart, with the functions that its expressions call."""

    alarm: Alarm
    chart: Chart
    state: State = field(default_factory=State)
    worst: int = CLEAR
    names: dict[str, Any] = field(default_factory=dict)
    elsewhere: bool = False  # it reads more than its chart's newest values
    settled: bool = False  # clear, and the same values would leave it as it is


class Evaluator:
    """All alarms over all charts, in steps of the charts' interval."""

    def __init__(self, alarms: Sequence[Alarm], charts: Sequence[Chart]) -> None:
        self.charts = charts
        self.by_id = {(chart.host, chart.id): chart for chart in charts}
        # As Netdata sorts them: what others use comes first in the file.
        pairs = [(alarm, chart) for chart in charts for alarm in alarms if alarm.on == chart.context]
        self.watches = {(alarm.name, chart.host, chart.id): Watch(alarm, chart) for alarm, chart in pairs}
        for watch in self.watches.values():
            watch.names = {"value": self.reader(watch), "divide": divide}
        self.raised: list[Raised] = []

    def reader(self, watch: Watch) -> Callable[[str], float]:
        """Return the function that gives the values of an alarm's names, each resolved once: a week reads millions."""
        sources: dict[str, Callable[[], float]] = {}

        def value(name: str) -> float:
            if name not in sources:
                sources[name] = self.source(watch, name)
            return sources[name]()

        return value

    def source(self, watch: Watch, name: str) -> Callable[[], float]:
        """Resolve a name of an alarm's expression; raises KeyError."""
        chart = watch.chart
        if name == "this":
            return lambda: watch.state.value
        if name == "status":
            return lambda: watch.state.status
        if name in chart.history:
            return partial(chart.latest, name)
        watch.elsewhere = True
        if other := self.watches.get((name, chart.host, chart.id)):
            return lambda: other.state.value
        owner, _, dimension = name.rpartition(".")
        if (chart.host, owner) in self.by_id:
            return partial(self.by_id[chart.host, owner].latest, dimension)
        raise KeyError(f"{chart.id}: ${name} is neither a dimension, nor an alarm on it, nor another chart's dimension")

    def step(self, now: float) -> None:
        for chart in self.charts:
            chart.advance(now)
        for watch in self.watches.values():
            self.evaluate(watch, now)

    def evaluate(self, watch: Watch, now: float) -> None:
        alarm, chart, state, names = watch.alarm, watch.chart, watch.state, watch.names
        if watch.settled and chart.same:
            return
        value = state.value
        if alarm.lookup:
            state.value = chart.reduce(alarm.lookup)
        if alarm.calc:
            state.value = float(eval(alarm.calc, names))
        status = CLEAR
        if alarm.warn and eval(alarm.warn, names):
            status = WARNING
        if alarm.crit and eval(alarm.crit, names):
            status = CRITICAL
        before, state.status = state.status, status
        watch.settled = not (status or before or state.open or alarm.lookup or watch.elsewhere) and state.value == value
        watch.worst = max(status, watch.worst)
        if status == CLEAR:
            if state.open and now - state.calm >= state.delay:
                state.open, state.delay = False, 0.0
            return
        if not state.open:
            self.raised.append(Raised(now, chart.host, chart.id, alarm.name, status, state.value))
            state.delay = alarm.delay.down
        elif before == CLEAR:
            # Again while the clear was waiting: the same incident, and the next clear waits longer.
            state.delay = min(state.delay * alarm.delay.multiplier, alarm.delay.longest)
        state.open, state.calm = True, now


def read(text: str) -> list[Alarm]:
    return [Alarm.read(fields) for fields in blocks(text)]


def run(alarms: Sequence[Alarm], charts: Sequence[Chart], duration: float) -> list[Raised]:
    """Every incident within `duration` seconds."""
    evaluator = Evaluator(alarms, charts)
    interval = charts[0].interval
    if any(chart.interval != interval for chart in charts):
        raise ValueError("charts of different intervals")
    for step in range(int(duration // interval)):
        evaluator.step(step * interval)
    return evaluator.raised
