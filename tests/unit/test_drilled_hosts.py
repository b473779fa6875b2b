"""Hosts that a drill adds to the lab's fleet, or replaces: the inventory meanwhile, and the order of the plays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from drills import balancers, hosts
from drills.model import WITHOUT_AUTOSCALER, Scene
from lab import containers
from lab import fleet as lab
from tests.harness import machines
from tests.unit.shared import TOP


class Machine:
    def __init__(self) -> None:
        self.removed = False

    def remove(self, **_: Any) -> None:
        self.removed = True


@pytest.fixture
def inventory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The lab's own, without a lab: what would be started is only read."""
    folder = tmp_path / "inventories" / "lab"
    folder.mkdir(parents=True)
    shutil.copy(TOP / "inventories" / "lab" / "hosts.yml", folder)
    monkeypatch.setattr(docker, "from_env", lambda: None)
    monkeypatch.setattr(containers, "up", lambda *_: None)
    return str(folder)


def test_an_added_host_is_the_last_of_its_group_until_it_is_taken_out(
    inventory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab.read(Path(inventory))
    made = {"lb1": Machine(), "lb3": Machine()}
    monkeypatch.setattr(machines, "machines", lambda: made)
    assert machines.add(inventory, "lb") == "lb3"
    balancers_now = lab.read(Path(inventory)).members("lb")
    assert [(host.name, host.address) for host in balancers_now] == [
        *((host.name, host.address) for host in before.members("lb")),
        ("lb3", "10.186.0.13"),
    ]
    assert machines.take_out(inventory) and made["lb3"].removed and not made["lb1"].removed
    assert lab.read(Path(inventory)) == before
    assert not machines.take_out(inventory), "there is none"


def test_none_is_added_at_the_address_of_another(inventory: str) -> None:
    file = Path(inventory) / "hosts.yml"
    file.write_text(file.read_text().replace("10.186.0.51", "10.186.0.24"))
    with pytest.raises(AssertionError, match=r"app4 at 10\.186\.0\.24 would be another host of app, but client1 has"):
        machines.add(inventory, "app")
    assert not (Path(inventory) / machines.ADDED).exists()


class Host:
    """Has the address of the one that is added among its upstreams as long as that is in the fleet."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def check_output(self, command: str) -> str:
        present = "add-host" in self.done and "take out" not in self.done
        return "" if command == hosts.UPSTREAMS and not present else "192.0.2.9"


@pytest.mark.parametrize(
    ("act", "order"),
    [
        (hosts.replace_an_application_host, ["remove-host", "replace", "replace-host"]),
        (hosts.add_an_application_host, ["add", "add-host", "scale 3", "scale 2", "remove-host", "take out", "site"]),
        (balancers.replace_the_holder, ["remove-host", "replace", "replace-host", "switch"]),
        (balancers.add_a_balancer, ["add", "add-host", "switch", "remove-host", "take out", "site"]),
    ],
)
def test_each_host_leaves_before_it_is_gone_and_whole_runs_leave_the_autoscaler_stopped(
    act: Callable[[Scene], dict[str, float]], order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[str]()

    def play(_: Scene, name: str, *options: str, **variables: Any) -> str:
        done.append(f"{name} {variables['phoenix_capacity']}" if name == "scale" else name)
        whole = name in ("site", "add-host", "replace-host")
        assert options == (WITHOUT_AUTOSCALER if whole else ())
        return ""

    class Pair:
        """The first has the address once the second has left, or once the third has."""

        def __init__(self, *_: str) -> None:
            self.hosts = {"lb1": Host(done), "lb2": Host(done)}

        def certificates(self) -> set[str]:
            return {"the same"}

        def holders(self) -> list[str]:
            moves = [one for one in done if one in ("switch", "remove-host")]
            third = "lb3" if "add" in done else "lb2"
            return ["lb1" if moves[-1:] == ["remove-host"] else third]

        def holds(self, name: str) -> bool:
            return self.holders() == [name]

        def roles(self) -> tuple[str, str]:
            return ("lb1", "lb2")

    def noted(name: str, result: object) -> Callable[..., object]:
        def note(*_: object) -> object:
            done.append(name)
            return result

        return note

    for module, added in ((hosts, "app4"), (balancers, "lb3")):
        monkeypatch.setattr(module, "add", noted("add", added))
        monkeypatch.setattr(module, "replace", noted("replace", None))
        monkeypatch.setattr(module, "take_out", noted("take out", True))
    monkeypatch.setattr(Scene, "second", lambda *_: "lb2")
    monkeypatch.setattr(balancers, "Pair", Pair)
    monkeypatch.setattr(hosts, "capacity_of", lambda _: 2)
    monkeypatch.setattr(hosts, "ports_of", lambda _: {"app1": [3000, 3900], "app4": [3000, 3900]})
    monkeypatch.setattr(Scene, "play", play)
    monkeypatch.setattr(Scene, "pair", Pair())
    monkeypatch.setattr(Scene, "hosts", lambda *_: {"lb1": Host(done), "app4": Host(done)})
    assert act(Scene("inventories/lab", "https://192.0.2.1"))["recovered"] >= 0
    assert done == order
