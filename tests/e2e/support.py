"""What the end-to-end tests and the benchmark share: the fleet's hosts, load, and waiting.

Load is sent from the inventory's client host; failures are provoked over SSH, on the hosts themselves.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import testinfra

from lab import fleet

RATE = 200  # requests a second through the load balancer
LONGEST_S = 900
AFTER_S = 4  # of load after what a test did: what came back has to bear it, too
LOAD = Path(__file__).with_name("load.py")
WRITES = Path(__file__).with_name("writes.py")

Hosts = dict[str, Any]


def hosts_of(group: str, inventory: str) -> dict[str, Any]:
    """Inventory name -> testinfra host as root, for every host of a group of the lab's fleet."""
    ssh_config = Path(inventory).parents[1] / ".lab" / "ssh_config"
    return {
        host.name: testinfra.get_host(f"ssh://{host.name}", ssh_config=str(ssh_config), sudo=True)
        for host in fleet.read(Path(inventory)).hosts
        if group in ("all", *host.groups)
    }


def install_load(inventory: str) -> Any:
    """The host that sends the load, with the load generator on it."""
    ((name, host),) = hosts_of("client", inventory).items()
    assert ssh(inventory, name, "sudo tee /var/tmp/load.py >/dev/null", LOAD.read_text()).returncode == 0
    return host


@contextmanager
def load(client: Any, url: str, rate: float = RATE) -> Iterator[dict[str, Any]]:
    """Send rate requests a second while the block runs; afterwards the result holds what came of them."""
    result: dict[str, Any] = {}
    command = f"exec python3 /var/tmp/load.py {url}/ {rate} {LONGEST_S} >/var/tmp/load.json 2>&1"
    client.check_output("systemd-run --quiet --unit=phoenix-load --collect sh -c %s", command)
    time.sleep(2)
    try:
        yield result
        time.sleep(AFTER_S)
    finally:
        client.run("systemctl kill --signal=TERM phoenix-load")
        wait_for(lambda: client.run("systemctl is-active --quiet phoenix-load").rc != 0, 60, "the load's end")
        result.update(json.loads(client.check_output("cat /var/tmp/load.json")))
        print(f"{rate}/s: {result}")


def assert_none_failed(result: dict[str, Any]) -> None:
    assert result["failed"] == 0, result
    # A load that was not sent proves nothing.
    assert result["sent"] >= 0.9 * result["due"], result


def ssh(inventory: str, host: str, command: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a host with text on its standard input, which testinfra can't give."""
    config = Path(inventory).parents[1] / ".lab" / "ssh_config"
    return subprocess.run(
        ["ssh", "-F", str(config), host, command], input=text, capture_output=True, text=True, check=False
    )


def pid_of(host: Any, unit: str) -> int:
    return int(host.check_output("systemctl show -p MainPID --value %s", unit))


def past_start(host: Any, seconds: float = 16) -> None:
    """Wait until the instance on port 3000 is that old: a just started one has a grace before it counts as hung."""
    age = 'echo $(( $(date +%s) - $(date -d "$(systemctl show -p ExecMainStartTimestamp --value phoenix@3000)" +%s) ))'
    wait_for(lambda: int(host.check_output(age)) >= seconds, seconds + 10, "an instance past its start")


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until the condition holds and return how long that took, in seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - start


# Asks for the page until it is there, and prints how long that took since `start`, in ms.
_ASK = """
while True:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        if connection.getresponse().status == 200:
            break
    except (OSError, http.client.HTTPException):
        time.sleep(0.02)
    finally:
        connection.close()
print(round((time.monotonic() - start) * 1000))
"""
_KILL = """
import http.client, os, signal, subprocess, time
port = 3000
show = ["systemctl", "show", "-p", "MainPID", "--value", "phoenix@3000"]
pid = int(subprocess.run(show, capture_output=True, check=True).stdout)
start = time.monotonic()
os.kill(pid, signal.SIGKILL)
"""
# The same program with the same environment, as the same user, without systemd and its sandbox.
_START = """
import http.client, subprocess, time
port = 4999
script = (
    "set -a; . /etc/phoenix/phoenix.env; PORT=4999 NODE_ENV=production PATH=/opt/nodejs/current/bin:$PATH; "
    "cd /opt/phoenix/instances/3000 && exec setpriv --reuid phoenix --regid phoenix --clear-groups ./.phoenix-start"
)
start = time.monotonic()
process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL)
"""


def kill_and_ask(host: Any) -> int:
    """Kill the instance on port 3000; how long it took to answer again, in ms."""
    return int(host.check_output("python3 -c %s", _KILL + _ASK))


def start_and_ask(host: Any) -> int:
    """Start the application there by hand, and end it; how long it took to answer, in ms: what nobody can be below."""
    return int(host.check_output("python3 -c %s", _START + _ASK + "process.kill()\n"))


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number the upper of the two."""
    return sorted(values)[len(values) // 2]


PRIMARY = (
    "PYTHONPATH=/opt/pymongo/current python3 -c \"import pymongo; print(pymongo.MongoClient('127.0.0.1', 27017,"
    "directConnection=True, serverSelectionTimeoutMS=1000).admin.command('hello')['isWritablePrimary'])\""
)


def says(host: Any, command: str) -> str:
    """What a command prints there; nothing while the host can't be reached."""
    try:
        return str(host.run(command).stdout.strip())
    except RuntimeError:
        return ""


def primaries(members: Hosts) -> list[str]:
    return [name for name, host in members.items() if says(host, PRIMARY) == "True"]


def connection_string(inventory: str) -> str:
    """The application's, as it stands on the app hosts; it holds a password."""
    host = next(iter(hosts_of("app", inventory).values()))
    found = re.search(
        r'^DB_CONNECTION_STRING="?(mongodb:[^"\n]*)', host.check_output("cat /etc/phoenix/phoenix.env"), re.M
    )
    assert found, "no connection string in /etc/phoenix/phoenix.env"
    return found[1]


def lose_primary(inventory: str) -> float:
    """Kill the primary while documents are written; the longest time between two majority writes, in seconds.

    Afterwards the member runs again and there is one primary.
    """
    members = hosts_of("db", inventory)
    (primary,) = primaries(members)
    writer = next(name for name in members if name != primary)
    assert ssh(inventory, writer, "sudo tee /var/tmp/writes.py >/dev/null", WRITES.read_text()).returncode == 0
    command = "PYTHONPATH=/opt/pymongo/current python3 /var/tmp/writes.py 30"
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(ssh, inventory, writer, command, connection_string(inventory))
        time.sleep(3)
        try:
            assert members[primary].run("systemctl kill -s KILL mongod && systemctl stop mongod").rc == 0
            done = writing.result()
        finally:
            assert members[primary].run("systemctl start mongod").rc == 0
    wait_for(lambda: len(primaries(members)) == 1, 60, "one primary again")
    return float(json.loads(done.stdout)["gap_s"])


@contextmanager
def replica_set_settings(inventory: str, **settings: int) -> Iterator[None]:
    """Other settings of the replica set while the block runs."""

    def configure(values: Mapping[str, int]) -> dict[str, int]:
        members = hosts_of("db", inventory)
        (primary,) = primaries(members)
        password = (Path(inventory) / ".secrets" / "mongodb-admin").read_text().strip()
        done = ssh(
            inventory,
            primary,
            f"PYTHONPATH=/opt/pymongo/current python3 -c {shlex.quote(RECONFIGURE)}",
            json.dumps({"password": password, "settings": values}),
        )
        assert done.returncode == 0, done.stderr
        before: dict[str, int] = json.loads(done.stdout)
        return before

    before = configure(settings)
    try:
        yield
    finally:
        configure(before)


RECONFIGURE = """
import json, sys, pymongo
wanted = json.load(sys.stdin)
client = pymongo.MongoClient("127.0.0.1", username="admin", password=wanted["password"], directConnection=True)
config = client.admin.command("replSetGetConfig")["config"]
print(json.dumps({name: config["settings"][name] for name in wanted["settings"]}))
config["settings"].update(wanted["settings"])
config["version"] += 1
client.admin.command("replSetReconfig", config)
"""
