"""A soak on a running fleet, from its preparation until the fleet is as it was found."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from drills.model import Scene
from soak import found, schedule
from soak.faults import FAULTS, Fault
from soak.record import PATIENCE_S, Record, Struck
from tests.harness import instances, programs, writes
from tests.harness.disk import GROW
from tests.harness.hosts import PYTHON_WITH_DRIVER, Hosts, first_of, output_of
from tests.harness.load import RATE, load
from tests.harness.machines import HEAL, settled
from tests.harness.pair import status_of
from tests.harness.waiting import wait_for

# Longer than any limit after the last fault.
LOAD_AFTER_S = 1200
LOOK_EVERY_S = 2.0
BACK_S = 180
PATIENT = ("--retry", "--timeout", str(PATIENCE_S), "--series")

Say = Callable[[str], None]


def groups(scene: Scene) -> dict[str, list[str]]:
    """Hosts that faults are drawn for, by the groups that FAULTS names."""
    serving = list(instances.serving(scene.inventory))
    balancers = scene.hosts("lb")
    # Without a floating address nobody takes over.
    pair = all(status_of(host).get("floating") for host in balancers.values())
    return {
        "serving": serving,
        "db": list(scene.hosts("db")),
        "lb": list(balancers) if pair else [],
        "control": list(scene.hosts("control")),
    }


def writer_of(scene: Scene) -> str:
    """The host that sends the writes, which is left alone: a standby one, which may reach the database."""
    standby = scene.hosts("app_standby")
    return next(iter(standby or scene.hosts("control")))


@dataclass(frozen=True)
class Plan:
    """The faults of a seed, without end unless so many were asked for. left_out: why some kinds are not among them."""

    seed: int
    steps: Iterator[schedule.Step]
    left_out: Mapping[str, str]


def plan(
    scene: Scene, seed: int, kinds: Sequence[str] = (), number: int | None = None, **times: tuple[float, float]
) -> Plan:
    """Draw faults of these kinds, or of all that this fleet can have."""
    wanted = [fault.kind for fault in FAULTS if fault.kind.name in kinds or not kinds]
    can, cannot = schedule.possible(wanted, groups(scene), {writer_of(scene)})
    return Plan(seed, itertools.islice(schedule.steps(seed, can, **times), number), cannot)


def run(scene: Scene, drawn: Plan, seconds: float, say: Say) -> Record:
    """Provoke the faults under load until none is left or so many seconds are over, and put everything back.

    Ctrl-C ends it early, with the record of what was. The autoscaler has to be still.
    """
    known = {fault.kind.name: fault for fault in FAULTS}
    record = Record(drawn.seed, left_out=drawn.left_out)
    for kind, why in drawn.left_out.items():
        say(f"left out: {kind}: {why}")
    before = found.look(scene)
    if wrong := found.unwell(before):
        record.error = f"the fleet is not whole, and nothing was provoked: {', '.join(wrong)}"
        return record
    members = found.replica_set(scene)
    holders = scene.pair.holders()
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            _load(scene, stack, record, seconds)
            began = time.monotonic()
            for step in drawn.steps:
                if time.monotonic() - began + step.pause_s > seconds:
                    break
                time.sleep(step.pause_s)
                struck = begin(known[step.kind], step)
                record.faults.append(struck)
                strike(scene, known[step.kind], step, struck, before)
                say(line(struck, began))
                if struck.whole is None:
                    say("the fleet is not as before: stopping here")
                    break
    except KeyboardInterrupt:
        record.error = "interrupted"
    except Exception as error:  # noqa: BLE001 - whatever it was belongs into the record
        record.error = f"{type(error).__name__}: {error}"
    finally:
        record.seconds = time.monotonic() - began
        with _undisturbed():
            _end(scene, record, before, members, holders, began)
    return record


def _load(scene: Scene, stack: ExitStack, record: Record, seconds: float) -> None:
    """Begin both loads, whose results are in the record once the stack is closed."""
    writer = writer_of(scene)
    runner = PYTHON_WITH_DRIVER
    if writer not in scene.hosts("control"):
        runner = stack.enter_context(writes.borrowed_driver(scene.inventory, writer))
    record.writes = stack.enter_context(writes.writes(scene.inventory, writer, "--series", runner=runner))
    client = first_of("client", scene.inventory)
    longest = int(seconds + LOAD_AFTER_S)
    record.reads = stack.enter_context(load(client, scene.url, RATE, *PATIENT, longest=longest))


def begin(fault: Fault, step: schedule.Step) -> Struck:
    return Struck(step.number, step.kind, step.host, fault.limit_s, fault.lasts, fault.moves, time.monotonic())


def strike(scene: Scene, fault: Fault, step: schedule.Step, struck: Struck, before: found.Found) -> None:
    """Provoke a fault, end it, and wait until the fleet is as before."""
    try:
        with fault.provoke(scene, step.host) as struck.seen:
            if fault.lasts:
                time.sleep(step.hold_s)
            struck.ended = time.monotonic()
    except Exception as error:  # noqa: BLE001 - it is reported, and the fleet may recover all the same
        struck.error = f"{type(error).__name__}: {error}"
        struck.ended = struck.ended or time.monotonic()
    deadline = struck.ended + fault.limit_s
    while True:
        struck.missing = list(found.compared(before, found.look(scene)))
        now = time.monotonic()
        if not struck.missing:
            struck.whole = now
        if struck.whole or now > deadline:
            return
        time.sleep(LOOK_EVERY_S)


def line(struck: Struck, began: float) -> str:
    """One fault for people."""
    at = struck.at - began
    recovered = "NOT as before" if struck.recovered_s is None else f"as before after {struck.recovered_s:.1f} s"
    said = [f"{struck.number:3} {at:6.0f} s  {struck.kind:<20} {struck.host:<9} {recovered}", struck.seen]
    return "; ".join(part for part in (*said, struck.error, *struck.missing) if part)


def _end(
    scene: Scene, record: Record, before: found.Found, members: object, holders: Sequence[str], began: float
) -> None:
    """Judge what is there, then put back what a fault that was broken off has left."""
    origin = record.reads.get("began", began)
    for struck in record.faults:
        struck.at -= origin
        struck.ended = None if struck.ended is None else struck.ended - origin
        struck.whole = None if struck.whole is None else struck.whole - origin
    if "series" in record.writes:
        shift = record.writes["began"] - origin
        record.writes["series"] = [(at + shift, latency) for at, latency in record.writes["series"]]
    try:
        record.differences = list(found.compared(before, found.look(scene)))
        if record.differences:
            put_back(scene, before)
        if scene.pair.holders() != holders:
            scene.play("switch", phoenix_master=holders[0])
        record.equal = writes.data_equal(scene.inventory)
        if found.replica_set(scene) != members:
            record.differences.append("the replica set's configuration is not as before")
    except Exception as error:  # noqa: BLE001 - the record is worth more than its end
        record.differences.append(f"putting back failed, see make status: {type(error).__name__}: {error}")


def put_back(scene: Scene, before: found.Found) -> None:
    """Bring back everything that a fault can have left away or changed."""
    for machine in scene.machines.values():
        machine.start()
    everywhere: Hosts = scene.hosts("all")
    for name, host in everywhere.items():
        wait_for(lambda host=host: output_of(host, "echo up") == "up", BACK_S, f"{name} answers")  # type: ignore[misc]
        host.run(f"{HEAL}; systemctl reset-failed")
    for host in scene.hosts("db").values():
        host.check_output(f"{GROW}\nsystemctl start mongod")
    control = next(iter(scene.hosts("control").values()))
    wait_for(lambda: settled(control), BACK_S, "control runs")
    wait_for(lambda: output_of(control, programs.LOCK_SHOW) == "free", BACK_S, "the lock of what ended is free")
    seen = found.look(scene)
    capacity, release = next(iter(before.rotation.values())), before.record["release"]
    if seen.record["capacity"] not in (None, capacity) or seen.rotation != before.rotation:
        scene.play("scale", phoenix_capacity=capacity, scale_lock_wait=300)
    if {seen.record["release"], *(one["release"] for one in seen.hosts.values() if "release" in one)} != {release}:
        scene.play("rollback", phoenix_version=release, deploy_lock_wait=300)
    end = time.monotonic() + BACK_S
    while wrong := found.compared(before, found.look(scene)):
        assert time.monotonic() < end, f"still not as before: {', '.join(wrong)}"
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C not break off what follows."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
