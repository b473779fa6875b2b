"""The known state of this host's instances, and the steps to the wanted one: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Instance:
    """The state of one port. revision: what it was last healthy with; release: its link. Both "" when unknown."""

    port: int
    active: bool
    enabled: bool
    revision: str
    release: str = ""


@dataclass(frozen=True)
class Change:
    """A change, made or planned: stop, link, enable, restart or start a port; current or remove for a release."""

    action: str
    port: int = 0
    release: str = ""

    def shown(self) -> dict[str, Any]:
        """The form in which the verbs print it."""
        return {"action": self.action, **({"port": self.port} if self.port else {"release": self.release})}


def missing(wanted: Iterable[int], found: Iterable[Instance]) -> list[int]:
    """Wanted ports that don't run, or would not after a reboot."""
    running = {instance.port for instance in found if instance.active and instance.enabled and instance.release}
    return [port for port in wanted if port not in running]


def surplus(wanted: Iterable[int], found: Iterable[Instance]) -> list[int]:
    """Ports that run, or would after a reboot, and are not wanted."""
    ports = set(wanted)
    return sorted(
        instance.port
        for instance in found
        if instance.port not in ports and (instance.active or instance.enabled or instance.release)
    )


def decide(wanted: Iterable[int], found: Iterable[Instance], revision: str, keep_running: bool = False) -> list[Change]:
    """The steps from found to wanted, in order: first stop what must not run, then each wanted port.

    With keep_running, nothing that runs is stopped or restarted.
    """
    instances = {instance.port: instance for instance in found}
    ports = list(wanted)
    steps = [] if keep_running else [Change("stop", port) for port in surplus(ports, instances.values())]
    # Before anything else: systemd may have to start one of them at any moment.
    steps += [Change("link", port) for port in ports if port in instances and not instances[port].release]
    for port in ports:
        instance = instances.get(port, Instance(port, False, False, ""))
        if not instance.enabled:
            steps.append(Change("enable", port))
        if not instance.active:
            steps.append(Change("start", port))
        elif instance.revision != revision and not keep_running:
            steps.append(Change("restart", port))
    return steps
