"""States that the real plugin, or the real agent, is fed in place of a fault: as gauges with a label of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drills.model import Provocation, Scene
from tests.harness.hosts import REMOTE, first_of, ssh

FOLDER = "/var/lib/phoenix/metrics"
HOUR, DAY = 3600, 86400


def _gauge(alarm: str, metric: str, value: float) -> Callable[[Scene], None]:
    """Write a gauge beside those of control. A time is given as an age."""
    path = f"{FOLDER}/trial-{alarm}.prom"

    def write(scene: Scene) -> None:
        shown = time.time() - value if metric.endswith("_timestamp_seconds") else value
        line = f'{metric}{{trial="{alarm}"}} {shown:.15g}'
        first_of("control", scene.inventory).check_output(f"echo '{line}' >{path}.new && mv {path}.new {path}")

    return write


def fed(alarm: str, metric: str, bad: float, good: float = 0, *, settle_s: float = 0, **settings: float) -> Provocation:
    """A gauge that is good, then bad, then good again; settle_s: for how long it has to have been good."""
    path = f"{FOLDER}/trial-{alarm}.prom"

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        _gauge(alarm, metric, good)(scene)
        time.sleep(settle_s)
        try:
            yield
        finally:
            first_of("control", scene.inventory).run(f"rm -f {path} {path}.new")

    @contextmanager
    def act(scene: Scene) -> Iterator[None]:
        _gauge(alarm, metric, bad)(scene)
        try:
            yield
        finally:
            _gauge(alarm, metric, good)(scene)

    shown = f"{bad / HOUR:g} h old" if metric.endswith("_timestamp_seconds") else f"{bad:g}"
    return Provocation((alarm,), f"`{metric}` is {shown}", act, stage, settings=settings, real=False, mark="trial")


@contextmanager
def machine(scene: Scene) -> Iterator[None]:
    """A plugin beside Phoenix's on the standby host's agent, which draws the charts of a machine."""
    host = first_of("app_standby", scene.inventory)
    plugin, configuration = "/usr/local/lib/phoenix/netdata/trial.plugin", "/etc/netdata/netdata.conf"
    text = (REMOTE / "machine_charts.py").read_text(encoding="utf-8")
    done = ssh(
        scene.inventory,
        scene.first("app_standby"),
        f"cat >{plugin} && chmod 0755 {plugin} && cp -p {configuration} {configuration}.trial && "
        f"sed -i 's/^    phoenix = yes/&\\n    trial = yes/' {configuration} && systemctl restart netdata",
        text,
    )
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        # Before their plugin is gone, the charts have to be.
        host.run("echo gone >/run/phoenix-trial-machine; sleep 10")
        host.check_output(
            f"mv {configuration}.trial {configuration}; rm -f {plugin} /run/phoenix-trial-machine; "
            "systemctl restart netdata"
        )


@contextmanager
def machine_in_need(scene: Scene) -> Iterator[None]:
    host = first_of("app_standby", scene.inventory)
    host.check_output("echo bad >/run/phoenix-trial-machine && chmod 0644 /run/phoenix-trial-machine")
    try:
        yield
    finally:
        host.check_output("echo good >/run/phoenix-trial-machine")
