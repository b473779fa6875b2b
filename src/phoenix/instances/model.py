"""The known state of this host's instances, and the steps to the wanted one: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Instance:
    """The state of one port; "" when unknown.

    revision: what it was last healthy with; release (a path) and configuration (a name): its links.
    """

    port: int
    active: bool
    enabled: bool
    revision: str
    release: str = ""
    configuration: str = ""

    @property
    def linked(self) -> bool:
        """Whether systemd could start it."""
        return bool(self.release and self.configuration)


@dataclass(frozen=True)
class Change:
    """A change, made or planned.

    stop, link, enable, restart, start or switch a port; current, remove or write for a release or a configuration.
    """

    action: str
    port: int = 0
    release: str = ""
    configuration: str = ""

    def shown(self) -> dict[str, Any]:
        """The form in which the verbs print it."""
        named = {"port": self.port, "release": self.release, "configuration": self.configuration}
        return {"action": self.action, **{name: value for name, value in named.items() if value}}


def missing(wanted: Iterable[int], found: Iterable[Instance]) -> list[int]:
    """Wanted ports that don't run, or would not after a reboot."""
    running = {instance.port for instance in found if instance.active and instance.enabled and instance.linked}
    return [port for port in wanted if port not in running]


def surplus(wanted: Iterable[int], found: Iterable[Instance]) -> list[int]:
    """Ports that run, or would after a reboot, and are not wanted."""
    ports = set(wanted)
    return sorted(
        instance.port
        for instance in found
        if instance.port not in ports
        and (instance.active or instance.enabled or instance.release or instance.configuration)
    )


def decide(wanted: Iterable[int], found: Iterable[Instance], revision: str, keep_running: bool = False) -> list[Change]:
    """The steps from found to wanted, in order: first stop what must not run, then each wanted port.

    With keep_running, nothing that runs is stopped or restarted.
    """
    instances = {instance.port: instance for instance in found}
    ports = list(wanted)
    steps = [] if keep_running else [Change("stop", port) for port in surplus(ports, instances.values())]
    # Before anything else: systemd may have to start one of them at any moment.
    steps += [Change("link", port) for port in ports if port in instances and not instances[port].linked]
    for port in ports:
        instance = instances.get(port, Instance(port, False, False, ""))
        if not instance.enabled:
            steps.append(Change("enable", port))
        if not instance.active:
            steps.append(Change("start", port))
        elif instance.revision != revision and not keep_running:
            steps.append(Change("restart", port))
    return steps
