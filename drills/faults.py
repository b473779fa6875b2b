"""Faults of the real thing, each of which ends with its cause."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from drills.model import Fault, Scene
from drills.states import FOLDER, fed
from tests.harness import load
from tests.harness.alarms import busy_instance
from tests.harness.database import admin, answer, one_primary
from tests.harness.hosts import first_of, output_of, remote
from tests.harness.instances import serving
from tests.harness.waiting import wait_for


@contextmanager
def done_and_undone(scene: Scene, group: str, do: str, undo: str) -> Iterator[None]:
    """A shell command on the first host of a group, and what ends its effect."""
    host = first_of(group, scene.inventory)
    try:
        host.check_output(do)
        yield
    finally:
        host.check_output(undo)


def shell(group: str, do: str, undo: str) -> Fault:
    return partial(done_and_undone, group=group, do=do, undo=undo)


def file_system(name: str, options: str, fill: str, empty: str) -> tuple[Fault, Fault]:
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
    primary = one_primary(members)
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
    primary = one_primary(members)
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
