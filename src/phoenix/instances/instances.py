"""This host's phoenix@ instances, each of which runs the release that its own link names.

phoenixctl instances converge PORT... exactly these ports run: starts and enables them, stops and disables all
                                      others, and restarts, one after another, those that don't run the current
                                      release, unit, environment and Node.js. --release becomes the current one
                                      before. With --no-restart a current release and running instances stay as
                                      they are. Prints `changed: ...` lines.
phoenixctl instances status           prints what is there as JSON; stale ports were not started with --release (or the
                                      current one) and the unit, environment and Node.js that are there now
phoenixctl instances switch PORT...   waits until no request is in flight, stops the ports, links them to --release,
                                      starts them, and waits until each is healthy --times in a row; with --rehearse,
                                      the paths on standard input are then asked for, too
phoenixctl instances memory PORT...   prints each port's memory every second for --seconds, as JSON
phoenixctl instances activate         makes --release the current one, and removes old releases
phoenixctl instances drop             removes --release, which never became the current one here

Exit status 1: an instance did not become healthy (standard error says why), or the request can't be met.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from phoenix.common import files
from phoenix.common.files import point, target
from phoenix.instances import drain

UNIT = "phoenix@{}.service"
STATE = Path("/var/lib/phoenix/instances")
TOP = Path("/opt/phoenix")
RELEASES = TOP / "releases"
LINKS = TOP / "instances"
CURRENT = TOP / "current"
NODEJS = Path("/opt/nodejs/current")
# What an instance is started with, beside its release and Node.js; a change of any of them needs a restart.
FILES = (Path("/etc/systemd/system/phoenix@.service"), Path("/etc/phoenix/phoenix.env"))
# Written into a release once it became the current one.
MARK = ".phoenix-activated"
CRASHES = 5  # within one wait: more is a crash at boot, and not a database that is away for a moment


@dataclass(frozen=True)
class Instance:
    """What is known of one port. revision: what it was last healthy with; release: its link. Both "" when unknown."""

    port: int
    active: bool
    enabled: bool
    revision: str
    release: str = ""


@dataclass(frozen=True)
class Step:
    action: str  # stop, link, enable, restart or start
    port: int


class Unhealthy(Exception):
    """An instance that did not become healthy; the text says what was seen of it."""


def decide(wanted: Iterable[int], found: Iterable[Instance], revision: str, restart: bool = True) -> list[Step]:
    """The steps from found to wanted, in order: first what must not run, then each wanted port."""
    instances = {instance.port: instance for instance in found}
    ports = list(wanted)
    steps = [
        Step("stop", port)
        for port, instance in sorted(instances.items())
        if port not in ports and (instance.active or instance.enabled or instance.release)
    ]
    # Before anything else: systemd may have to start one of them at any moment.
    steps += [Step("link", port) for port in ports if port in instances and not instances[port].release]
    for port in ports:
        instance = instances.get(port, Instance(port, False, False, ""))
        if not instance.enabled:
            steps.append(Step("enable", port))
        if not instance.active:
            steps.append(Step("start", port))
        elif instance.revision != revision and restart:
            steps.append(Step("restart", port))
    return steps


def old_releases(found: Mapping[str, float], used: Iterable[str], keep: int) -> list[str]:
    """The releases to remove, of those that were current at the given times: all but the newest ones and the used."""
    needed = set(used)
    ordered = sorted((name for name in found if name not in needed), key=lambda name: found[name], reverse=True)
    return ordered[max(keep - len(needed), 0) :]


def systemctl(*arguments: str) -> str:
    return subprocess.run(["systemctl", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def revision_of(release: str) -> str:
    """Identity of all that an instance is started with, if it runs this release (a path)."""
    digest = hashlib.sha256()
    for path in FILES:
        digest.update(path.read_bytes() if path.exists() else b"-")
    for text in (release, target(NODEJS)):
        digest.update(text.encode() or b"-")
    return digest.hexdigest()


def find() -> list[Instance]:
    active: set[int] = set()
    for block in systemctl("show", "--property=Id,ActiveState,SubState", "phoenix@*.service").split("\n\n"):
        match = re.search(r"^Id=phoenix@(\d+)\.service$", block, re.MULTILINE)
        # Waiting for its restart counts as running: systemd brings it back by itself.
        if match and re.search(r"^ActiveState=(active|activating|reloading)$", block, re.MULTILINE):
            active.add(int(match[1]))
    wants = Path("/etc/systemd/system/multi-user.target.wants").glob("phoenix@*.service")
    enabled = {int(match[1]) for link in wants if (match := re.fullmatch(r"phoenix@(\d+)\.service", link.name))}
    known = {int(path.name) for path in STATE.iterdir() if path.name.isdigit()} if STATE.is_dir() else set()
    linked = {int(path.name) for path in LINKS.iterdir() if path.name.isdigit()} if LINKS.is_dir() else set()
    return [
        Instance(
            port,
            port in active,
            port in enabled,
            (STATE / str(port)).read_text() if port in known else "",
            target(LINKS / str(port)),
        )
        for port in sorted(active | enabled | known | linked)
    ]


def ask(port: int, path: str, timeout: float, host: str = "") -> str:
    """What is wrong with the answer to a GET; "" when its status is below 500 and it came whole within timeout (s)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Connection": "close", "User-Agent": "phoenix-health"} | ({"Host": host} if host else {})
    start = time.monotonic()
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error or type(error).__name__})"
    finally:
        connection.close()
    took = time.monotonic() - start
    if answer.status >= 500:
        return f"status {answer.status}"
    return f"an answer only after {took:.1f} s" if took > timeout else ""


def restarts(port: int) -> int:
    return int(systemctl("show", "--property=NRestarts", "--value", UNIT.format(port)).strip() or 0)


def wait_healthy(port: int, options: argparse.Namespace, crashes: int = 0) -> None:
    """Wait for options.times good answers in a row.

    Raises Unhealthy after options.timeout seconds, or when the process ended `crashes` times (0: however often).
    """
    end = time.monotonic() + options.timeout
    good, wrong = 0, "no answer"
    while good < options.times:
        seen = ask(port, options.health_path, options.limit)
        good, wrong = (0, seen) if seen else (good + 1, wrong)
        if good == options.times:
            return
        if crashes and seen and (count := restarts(port)) >= crashes:
            raise Unhealthy(f"{UNIT.format(port)} ended {count} times instead of answering GET {options.health_path}")
        if time.monotonic() > end:
            raise Unhealthy(
                f"{UNIT.format(port)} did not answer GET {options.health_path} {options.times} times in a row with "
                f"a status below 500, each within {options.limit:g} s, in {options.timeout:.0f} s; last: {wrong}"
            )
        time.sleep(0.1)


def note(port: int, revision: str) -> None:
    files.replace(STATE / str(port), revision)


def apply(step: Step, options: argparse.Namespace) -> None:
    """Take one step of converge. Raises Unhealthy."""
    unit, link = UNIT.format(step.port), LINKS / str(step.port)
    if step.action == "stop":
        systemctl("disable", "--quiet", "--now", unit)
        # systemd forgets a unit that was stopped cleanly, and then has no failure of it to reset.
        subprocess.run(["systemctl", "reset-failed", unit], check=False, stderr=subprocess.DEVNULL)
        (STATE / str(step.port)).unlink(missing_ok=True)
        link.unlink(missing_ok=True)
    elif step.action == "link":
        point(link, target(CURRENT))
    elif step.action == "enable":
        systemctl("enable", "--quiet", unit)
    else:
        revision = revision_of(target(CURRENT))
        point(link, target(CURRENT))
        # A first start that fails is no reason to give up: systemd goes on trying, and the wait decides.
        subprocess.run(["systemctl", "restart", unit], check=False)
        wait_healthy(step.port, options)
        note(step.port, revision)


def mark_current() -> None:
    if CURRENT.is_dir() and not (CURRENT / MARK).exists():
        (CURRENT / MARK).touch()


def prune(keep: int) -> list[str]:
    """Names of the releases to remove: the oldest of those that were current once. Others may be about to be."""
    found = {path.parent.name: path.stat().st_mtime for path in RELEASES.glob(f"[!.]*/{MARK}")}
    links = [CURRENT, *LINKS.glob("[0-9]*")]
    return old_releases(found, {Path(target(link)).name for link in links if link.is_symlink()}, keep)


def reload_units() -> None:
    if systemctl("show", "--property=NeedDaemonReload", "phoenix-probe.service", "phoenix@*.service").count("=yes"):
        systemctl("daemon-reload")


def converge(options: argparse.Namespace) -> int:
    current = target(CURRENT)
    if options.release and (not current or not options.no_restart):
        current = str(RELEASES / options.release)
    if current != target(CURRENT):
        print(f"changed: current {options.release}", flush=True)
        if not options.check:
            point(CURRENT, current)
    revision = revision_of(current)
    steps = decide(options.ports, find(), revision, not options.no_restart)
    # Links first: a unit that is new may name them.
    for step in sorted(steps, key=lambda step: step.action != "link"):
        print(f"changed: {step.action} {step.port}", flush=True)
        if options.check:
            continue
        if step.action != "link":
            reload_units()
        try:
            apply(step, options)
        except Unhealthy as error:
            print(
                f"{error}. The other instances were left as they are. See: journalctl -u {UNIT.format(step.port)}",
                file=sys.stderr,
            )
            return 1
    if not options.check:
        reload_units()
        mark_current()
    remove(prune(options.keep), options.check)
    return 0


def remove(names: Iterable[str], check: bool) -> None:
    for name in names:
        print(f"changed: remove release {name}")
        if not check:
            shutil.rmtree(RELEASES / name)


def status(options: argparse.Namespace) -> int:
    revision = revision_of(str(RELEASES / options.release) if options.release else target(CURRENT))
    print(
        json.dumps(
            {
                "current": Path(target(CURRENT)).name,
                "releases": sorted(path.parent.name for path in RELEASES.glob("[!.]*/.phoenix-start")),
                "kept": sorted(path.parent.name for path in RELEASES.glob(f"[!.]*/{MARK}")),
                "instances": [
                    {
                        "port": one.port,
                        "active": one.active,
                        "release": Path(one.release).name,
                        "stale": one.active and one.revision != revision,
                    }
                    for one in find()
                ],
            }
        )
    )
    return 0


def unpacked(name: str) -> Path | None:
    """The release's folder; None, after saying so, where it is not whole on this host."""
    release = RELEASES / name
    if (release / ".phoenix-start").is_file():
        return release
    print(f"{release} is no release of this host: it has to be unpacked first", file=sys.stderr)
    return None


def switch(options: argparse.Namespace) -> int:
    """Put the ports on another release, all at once."""
    release = unpacked(options.release)
    if release is None:
        return 1
    # Read before anything stops; [] when nothing is handed over.
    paths = json.loads(sys.stdin.read() or "[]") if options.rehearse else []
    reload_units()
    revision = revision_of(str(release))
    units = [UNIT.format(port) for port in options.ports]
    # A request that is still open after so long is cut, as nginx itself does with those of old workers.
    if options.drain and drain.main(["--timeout", str(options.drain), *map(str, options.ports)]):
        print("They are cut", flush=True)
    systemctl("stop", *units)
    for port in options.ports:
        (STATE / str(port)).unlink(missing_ok=True)
        point(LINKS / str(port), str(release))
    systemctl("enable", "--quiet", *units)
    subprocess.run(["systemctl", "reset-failed", *units], check=False, stderr=subprocess.DEVNULL)
    systemctl("start", *units)
    try:
        for port in options.ports:
            wait_healthy(port, options, CRASHES)
            rehearse(port, paths, options)
            note(port, revision)
    except Unhealthy as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def rehearse(port: int, paths: Iterable[Mapping[str, str]], options: argparse.Namespace) -> None:
    """Ask for what clients asked for lately, {path, host} each, before they do. Raises Unhealthy."""
    for one in paths:
        if wrong := ask(port, one["path"], options.limit, one.get("host", "")):
            # Without its query, which may hold what is nobody's business.
            raise Unhealthy(f"{UNIT.format(port)} answers GET {one['path'].partition('?')[0]} with {wrong}")


def memory(options: argparse.Namespace) -> int:
    """Samples as [seconds, MB], how often the port's process ended meanwhile, and its limit (MB; 0: none)."""
    found: dict[int, list[list[float]]] = {port: [] for port in options.ports}
    before = {port: restarts(port) for port in options.ports}
    start = time.monotonic()
    while True:
        for port, samples in found.items():
            shown = systemctl("show", "--property=MemoryCurrent", "--value", UNIT.format(port)).strip()
            if shown.isdigit():
                samples.append([round(time.monotonic() - start, 1), round(int(shown) / 2**20, 1)])
        if time.monotonic() - start >= options.seconds:
            break
        time.sleep(1)
    result = {}
    for port, samples in found.items():
        limit = systemctl("show", "--property=MemoryMax", "--value", UNIT.format(port)).strip()
        result[port] = {
            "samples": samples,
            "ended": restarts(port) - before[port],
            "max_mb": int(limit) / 2**20 if limit.isdigit() else 0,
        }
    print(json.dumps(result))
    return 0


def activate(options: argparse.Namespace) -> int:
    release = unpacked(options.release)
    if release is None:
        return 1
    if target(CURRENT) != str(release):
        point(CURRENT, str(release))
        (release / MARK).touch()
        print(f"changed: current {options.release}")
    mark_current()
    remove(prune(options.keep), False)
    return 0


def drop(options: argparse.Namespace) -> int:
    release = RELEASES / options.release
    used = [link for link in (CURRENT, *LINKS.glob("[0-9]*")) if target(link) == str(release)]
    if used or (release / MARK).exists() or not release.is_dir():
        return 0  # in use, or a release that served once: not this command's to remove
    remove([options.release], False)
    return 0


def name_of_release(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a release")
    return text


COMMANDS = {"status": status, "switch": switch, "memory": memory, "activate": activate, "drop": drop}


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if command:
        parser.add_argument("command", choices=[command])
    if command in ("", "switch", "memory"):
        parser.add_argument("ports", type=int, nargs="+" if command else "*")
    if command != "memory":
        needed = command in ("switch", "activate", "drop")
        parser.add_argument("--release", type=name_of_release, required=needed, help="which release")
    if command in ("", "switch"):
        parser.add_argument("--health-path", default="/")
        parser.add_argument("--timeout", type=float, default=60, help="seconds to become healthy")
        parser.add_argument("--times", type=int, default=1, help="good answers in a row that make it healthy")
        parser.add_argument("--limit", type=float, default=5, help="seconds that one answer may take")
    if command in ("", "activate"):
        parser.add_argument("--keep", type=int, default=5, help="releases to keep")
    if command == "":
        parser.add_argument("--check", action="store_true", help="only say what would change")
        parser.add_argument("--no-restart", action="store_true", help="leave running instances alone")
    if command == "switch":
        parser.add_argument("--drain", type=float, default=0, help="seconds to wait for requests in flight")
        parser.add_argument("--rehearse", action="store_true", help='read [{"path", "host"}, ...] from standard input')
    if command == "memory":
        parser.add_argument("--seconds", type=float, default=0)
    return parser


def main(arguments: list[str]) -> int:
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    words = arguments[1:] if arguments[:1] == ["converge"] else arguments
    return COMMANDS.get(command, converge)(parser_of(command).parse_args(words))
