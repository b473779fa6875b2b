"""How each alarm of Phoenix is provoked on the running lab fleet, and why one is not.

A fault of the real thing where the lab has the thing and the fault ends with its cause; else a state that the real
plugin, or the real agent, is fed. Nothing outlives its provocation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from drills.model import Scene
from tests.harness import load
from tests.harness.alarms import busy_instance
from tests.harness.autoscaling import UNITS
from tests.harness.database import admin, answer, primaries
from tests.harness.hosts import REMOTE, first_of, output_of, remote, ssh
from tests.harness.instances import serving
from tests.harness.waiting import wait_for

# Entered for the fault, and left for its end.
Act = Callable[[Scene], AbstractContextManager[None]]
FOLDER = "/var/lib/phoenix/metrics"
HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class Provocation:
    """A fault, or a state that stands for one, and the alarms that it has to raise.

    stage: what has to be there before the fault and until the alarms are over. uses: what its fault shares with others,
    which wait for it. settings: limits that are lowered for it, as the true ones would take too long. real: whether it
    is a fault; else a state is fed. mark: what its message has to name, such as a chart.
    """

    alarms: tuple[str, ...]
    how: str
    act: Act
    stage: Act = lambda scene: nullcontext()
    uses: tuple[str, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    real: bool = True
    mark: str = ""
    raise_s: float = 300
    clear_s: float = 420


# --- states fed to the real plugin, as gauges with a label of their own


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


# --- faults


@contextmanager
def done_and_undone(scene: Scene, group: str, do: str, undo: str) -> Iterator[None]:
    """A shell command on the first host of a group, and what ends its effect."""
    host = first_of(group, scene.inventory)
    try:
        host.check_output(do)
        yield
    finally:
        host.check_output(undo)


def shell(group: str, do: str, undo: str) -> Act:
    return partial(done_and_undone, group=group, do=do, undo=undo)


def file_system(name: str, options: str, fill: str, empty: str) -> tuple[Act, Act]:
    """A small file system of its own on the standby host, and how it is filled and emptied."""
    point = f"/srv/trial-{name}"

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        host = first_of("app_standby", scene.inventory)
        host.check_output(f"mkdir -p {point} && mount -t tmpfs -o {options} trial {point}")
        # Until it has been seen, and has a past.
        time.sleep(150 if name == "filling" else 25)
        try:
            yield
        finally:
            host.check_output(f"umount {point} && rmdir {point}")

    return shell("app_standby", f"cd {point} && {fill}", f"cd {point} && {empty}"), stage


@contextmanager
def busy_core(scene: Scene) -> Iterator[None]:
    with busy_instance(next(iter(serving(scene.inventory).values()))):
        yield


@contextmanager
def killed_again_and_again(scene: Scene) -> Iterator[None]:
    host = next(iter(serving(scene.inventory).values()))
    for _ in range(4):
        host.check_output("systemctl kill --signal=KILL phoenix@3000.service")
        time.sleep(5)
    yield


@contextmanager
def no_instance(scene: Scene) -> Iterator[None]:
    """Stop every instance that serves while someone asks, and the spares, which would answer everything."""
    units = "phoenix@3000.service phoenix@3900.service"
    hosts = list(serving(scene.inventory).values())
    with load.load(first_of("client", scene.inventory), scene.url, 5):
        try:
            for host in hosts:
                host.check_output(f"systemctl stop {units}")
            yield
        finally:
            for host in hosts:
                host.check_output(f"systemctl start {units}")
            # Good answers, which the share of errors is of.
            time.sleep(10)


@contextmanager
def other_certificate(scene: Scene) -> Iterator[None]:
    """Serve, at the load balancer with the address, one that ends in five days and is for another name."""
    holder, _ = scene.pair.roles()
    host = scene.pair.hosts[holder]
    folder = "/etc/nginx/tls"
    try:
        host.check_output(
            f"cp -p {folder}/phoenix.crt {folder}/trial.crt && cp -p {folder}/phoenix.key {folder}/trial.key && "
            "openssl req -x509 -newkey rsa:2048 -nodes -days 5 -subj /CN=elsewhere.example "
            f"-keyout {folder}/phoenix.key -out {folder}/phoenix.crt 2>&1 && systemctl reload nginx"
        )
        yield
    finally:
        host.check_output(
            f"mv {folder}/trial.crt {folder}/phoenix.crt; mv {folder}/trial.key {folder}/phoenix.key; "
            "systemctl reload nginx"
        )


@contextmanager
def spare_balancer(scene: Scene, do: str, undo: str) -> Iterator[None]:
    """On the load balancer without the address, which clients do not notice."""
    _, other = scene.pair.roles()
    host = scene.pair.hosts[other]
    try:
        host.check_output(do)
        yield
    finally:
        host.check_output(undo)


@contextmanager
def no_keepalived(scene: Scene) -> Iterator[None]:
    scene.pair.roles()
    try:
        for host in scene.pair.hosts.values():
            host.check_output("systemctl stop keepalived")
        yield
    finally:
        for host in scene.pair.hosts.values():
            host.check_output("systemctl start keepalived")
        scene.pair.roles()


@contextmanager
def two_masters(scene: Scene) -> Iterator[None]:
    scene.pair.roles()
    with scene.pair.cut():
        wait_for(lambda: len(scene.pair.holders()) == 2, 60, "each has the address")
        yield


def _whole(scene: Scene) -> bool:
    shown = [output_of(host, "phoenixctl host status") for host in scene.hosts("db").values()]
    return all('"PRIMARY"' in text or '"SECONDARY"' in text for text in shown)


@contextmanager
def no_majority(scene: Scene) -> Iterator[None]:
    """Stop two of three members, the secondaries first."""
    members = scene.hosts("db")
    (primary,) = primaries(members)
    two = [host for name, host in members.items() if name != primary]
    try:
        for host in two:
            host.check_output("systemctl stop mongod")
        yield
    finally:
        for host in two:
            host.check_output("systemctl start mongod")
        wait_for(lambda: _whole(scene), 120, "every member is back")


@contextmanager
def held_back(scene: Scene) -> Iterator[None]:
    """Lock a secondary against what it should replicate."""
    members = scene.hosts("db")
    (primary,) = primaries(members)
    name = next(name for name in members if name != primary)

    def command(words: Mapping[str, Any]) -> None:
        seen = answer(scene.inventory, name, words, **admin(scene.inventory))
        assert "code" not in seen, seen

    command({"fsync": 1, "lock": True})
    try:
        yield
    finally:
        command({"fsyncUnlock": 1})
        wait_for(lambda: _whole(scene), 60, "it has followed")


@contextmanager
def a_message(scene: Scene, name: str) -> Iterator[None]:
    """Have one to deliver."""
    with ExitStack() as stack:
        provocation = fed(f"phoenix_test-{name}", "phoenix_test_alarm", 1)
        for context in (provocation.stage, provocation.act):
            stack.enter_context(context(scene))
        yield


@contextmanager
def refused(scene: Scene) -> Iterator[None]:
    """The webhook's receiver refuses for good, while there is something to say."""
    start = "systemd-run --quiet --collect --unit=phoenix-trial-receiver /usr/bin/python3"
    receiver = first_of("receivers", scene.inventory)
    try:
        receiver.check_output("systemctl stop lab-receiver@http && " + remote("refusing", runner=start))
        with a_message(scene, "refused"):
            yield
    finally:
        receiver.check_output("systemctl stop phoenix-trial-receiver; systemctl start lab-receiver@http")
        # Else it remembers for an hour.
        first_of("control", scene.inventory).check_output("systemctl restart phoenix-notify")


@contextmanager
def unreachable(scene: Scene) -> Iterator[None]:
    receiver = first_of("receivers", scene.inventory)
    try:
        receiver.check_output("systemctl stop lab-receiver@http")
        with a_message(scene, "unreachable"):
            yield
    finally:
        receiver.check_output("systemctl start lab-receiver@http")


@contextmanager
def out_of_rotation(scene: Scene) -> Iterator[None]:
    """Record a server that no host has, beside those that are recorded and stay so."""
    control = first_of("control", scene.inventory)
    before = [*json.loads(control.check_output("phoenixctl state show --json"))["drained"]]
    try:
        control.check_output(f"phoenixctl state drain --reason trial {' '.join([*before, '192.0.2.99:3000'])}")
        yield
    finally:
        control.check_output(f"phoenixctl state drain {' '.join(before)}")


@contextmanager
def failed_run(scene: Scene) -> Iterator[None]:
    """Report a run as failed, as every run does through this command; the gauges are as before afterwards."""
    control, path = first_of("control", scene.inventory), f"{FOLDER}/pipeline.prom"
    control.check_output(f"! test -e {path} || cp -p {path} {path}.trial")
    try:
        control.check_output("phoenixctl pipeline result failed")
        yield
    finally:
        control.check_output("phoenixctl pipeline result good")


@contextmanager
def former_run(scene: Scene) -> Iterator[None]:
    try:
        yield
    finally:
        path = f"{FOLDER}/pipeline.prom"
        control = first_of("control", scene.inventory)
        control.check_output(f"if test -e {path}.trial; then mv {path}.trial {path}; else rm -f {path}; fi")


FULL = file_system("full", "size=20m", "head -c 19600000 /dev/zero >x", "rm x")
INODES = file_system("inodes", "size=1m,nr_inodes=100", "for n in $(seq 97); do : >$n; done", "rm *")
FILLING = file_system("filling", "size=40m", "head -c 33000000 /dev/zero >x", "rm x")
LOCKED = file_system("locked", "size=1m", "mount -o remount,ro .", "mount -o remount,rw .")

# Those that take longest first: the others are provoked meanwhile.
PROVOCATIONS = [
    Provocation(
        (
            "phoenix_core_cpu",
            "phoenix_host_cpu",
            "phoenix_steal",
            "phoenix_memory",
            "phoenix_memory_pressure",
            "phoenix_clock",
            "phoenix_mongodb_oplog",
        ),
        "the agent of the standby host shows charts of a machine in need, from a plugin of the trial",
        machine_in_need,
        machine,
        # Its chart begins here, and the window has to be full.
        settings={"alerting_clock_seconds": 60},
        real=False,
        raise_s=420,
    ),
    Provocation(
        ("phoenix_certificate", "phoenix_certificate_name"),
        "a load balancer serves a certificate of five days, for another name",
        other_certificate,
        raise_s=420,
        clear_s=480,
    ),
    Provocation(
        ("phoenix_restarts",),
        "an instance is killed four times",
        killed_again_and_again,
        uses=("application",),
        clear_s=600,
    ),
    Provocation(
        ("phoenix_collector", "phoenix_site", "phoenix_unit_stopped"),
        "nginx is stopped on the load balancer without the address",
        partial(spare_balancer, do="systemctl stop nginx", undo="systemctl start nginx"),
        uses=("pair",),
    ),
    Provocation(
        ("phoenix_disk_filling",),
        "a file system of 40 MB is filled to 82 % within a minute",
        *FILLING,
        settings={"alerting_disk_window_minutes": 1},
    ),
    Provocation(("phoenix_disk_full",), "a file system of 20 MB is filled", *FULL),
    Provocation(("phoenix_inodes_full",), "97 of a file system's 100 inodes are used", *INODES),
    Provocation(("phoenix_read_only",), "a file system is made read-only", *LOCKED),
    Provocation(
        ("phoenix_notify_refused",),
        "the webhook's receiver answers 410; afterwards phoenix-notify is restarted, as it remembers for an hour",
        refused,
        uses=("webhook",),
    ),
    Provocation(("phoenix_notify",), "the webhook's receiver is stopped", unreachable, uses=("webhook",)),
    Provocation(
        ("phoenix_host_silent",),
        "the agent of a database host is stopped",
        shell("db", "systemctl stop netdata", "systemctl start netdata"),
        uses=("db",),
    ),
    Provocation(("phoenix_mongodb_lag",), "a secondary is locked (fsyncLock)", held_back, uses=("db",)),
    Provocation(
        ("phoenix_mongodb_down", "phoenix_mongodb_primary"),
        "two of three members are stopped",
        no_majority,
        uses=("db",),
    ),
    Provocation(
        ("phoenix_service_cpu",), "an instance is asked for much work without pause", busy_core, uses=("application",)
    ),
    Provocation(
        ("phoenix_instances_missing", "phoenix_http_errors"),
        "every instance is stopped, the spares as well, while 5 requests a second come",
        no_instance,
        uses=("application", "pair"),
    ),
    Provocation(
        ("phoenix_autoscaler_data",),
        "the autoscaler is stopped",
        shell("control", f"systemctl stop {UNITS}", f"systemctl start {UNITS}"),
    ),
    Provocation(
        ("phoenix_keepalived",),
        "keepalived is stopped on the load balancer without the address",
        partial(spare_balancer, do="systemctl stop keepalived", undo="systemctl start keepalived"),
        uses=("pair",),
    ),
    Provocation(("phoenix_floating_two",), "the load balancers do not hear each other", two_masters, uses=("pair",)),
    Provocation(
        ("phoenix_floating_none",), "keepalived is stopped on both load balancers", no_keepalived, uses=("pair",)
    ),
    Provocation(
        ("phoenix_failed_unit",),
        "a unit of the standby host ends with 1",
        shell(
            "app_standby",
            "systemd-run --quiet --unit=phoenix-trial-failed false; sleep 1; systemctl is-failed phoenix-trial-failed",
            "systemctl reset-failed phoenix-trial-failed",
        ),
    ),
    Provocation(
        ("phoenix_metrics_missing",),
        "the backup's gauges are as old as three hours",
        shell("control", f"touch --date '3 hours ago' {FOLDER}/backup.prom", f"touch {FOLDER}/backup.prom"),
    ),
    Provocation(
        ("phoenix_drained",),
        "a server that no host has is recorded as out of rotation",
        out_of_rotation,
        settings={"alerting_drained_seconds": 20},
    ),
    Provocation(("phoenix_pipeline",), "`phoenixctl pipeline result failed`, then `good`", failed_run, former_run),
    fed("phoenix_scaling", "phoenix_autoscaler_failed_actions_total", 2, settle_s=75, alerting_scaling_minutes=1),
    fed("phoenix_autoscaler_maximum", "phoenix_autoscaler_at_maximum", 1, alerting_autoscaler_maximum_seconds=20),
    fed("phoenix_autoscaler_frozen", "phoenix_autoscaler_frozen", 1, alerting_deploy_seconds=20),
    fed("phoenix_autoscaler_withheld", "phoenix_autoscaler_withheld", 2, alerting_autoscaler_withheld_seconds=20),
    fed("phoenix_deploy", "phoenix_deploy_last_result", 2),
    fed("phoenix_deploy_running", "phoenix_deploy_running", 1, alerting_deploy_seconds=20),
    fed("phoenix_pipeline_running", "phoenix_pipeline_running", 1, alerting_pipeline_seconds=20),
    fed("phoenix_process_unplaced", "phoenix_processes_unplaced_age_seconds", 300),
    fed("phoenix_demand_creation", "phoenix_demand_failed_creations", 3),
    fed("phoenix_demand_provider", "phoenix_demand_provider_away_seconds", 400),
    fed("phoenix_demand_stray", "phoenix_demand_stray_hosts", 1, alerting_demand_stray_seconds=20),
    fed("phoenix_demand_leaving", "phoenix_demand_leaving_seconds", 2000),
    fed("phoenix_demand_stalled", "phoenix_demand_checked_timestamp_seconds", HOUR),
    fed("phoenix_backup_late", "phoenix_backup_newest_good_timestamp_seconds", 27 * HOUR),
    fed("phoenix_backup_result", "phoenix_backup_last_result", 2),
    fed("phoenix_backup_window", "phoenix_backup_window_ratio", 0.9),
    fed("phoenix_backup_offsite", "phoenix_backup_offsite_newest_timestamp_seconds", 3 * DAY),
    fed("phoenix_backup_logs", "phoenix_backup_logs_oldest_age_seconds", 3 * DAY),
    fed("phoenix_oplog_lag", "phoenix_backup_oplog_timestamp_seconds", 700),
    fed("phoenix_oplog_gap", "phoenix_backup_oplog_gap_result", 2),
    fed("phoenix_oplog_proof", "phoenix_backup_chain_result", 1),
    fed("phoenix_drill_failed", "phoenix_drills_failed", 1),
    fed("phoenix_drill_late", "phoenix_drills_oldest_success_timestamp_seconds", 100 * DAY),
    fed("phoenix_test", "phoenix_test_alarm", 1),
]
# Alarm -> why it is not provoked here.
NOT_PROVOKED: Mapping[str, str] = {}
