"""The configuration file: typed, every key known, rejected as a whole if anything in it is invalid."""

from dataclasses import replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phoenix.autoscaler import schedule as scheduling
from phoenix.autoscaler.policy import Settings

Seconds = Annotated[float, Field(gt=0, le=86400)]
Port = Annotated[int, Field(ge=1, le=65535)]
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's errors about a key that no class has


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(Model):
    """Where datagrams are received, unless systemd passes a socket, and from which load balancers."""

    address: IPv4Address | IPv6Address
    port: Port
    balancers: Annotated[list[IPv4Address | IPv6Address], Field(min_length=1)]
    silent_seconds: Seconds = 3.0


class Action(Model):
    """How plays are run."""

    ansible: Path = Path("/opt/phoenix/runner/venv/bin")
    project: Path = Path("/opt/phoenix/runner/project")
    inventory: Path = Path("/opt/phoenix/runner/inventory.yml")
    name: str = "phoenix-autoscaler"  # of the lock's holder
    timeout_seconds: Seconds = 180.0
    retry_seconds: Seconds = 5.0  # doubled with each failure in a row
    retry_most_seconds: Seconds = 300.0


class Paths(Model):
    state: Path = Path("/var/lib/phoenix/state")
    own: Path = Path("/var/lib/phoenix/autoscaler")


class Metrics(Model):
    address: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    port: Port = 9109


class Demand(Model):
    """Hosts that are made on demand: how many there may be, the instances that each holds, and their record."""

    hosts: Annotated[int, Field(ge=0)]
    instances_per_host: Annotated[int, Field(ge=1)]
    record: Path = Path("/var/lib/phoenix/demand/hosts.json")


class Config(Model):
    policy: Settings
    room: Annotated[int, Field(ge=1)] | None = None  # instances that the application hosts hold, where it is known
    demand: Demand | None = None
    schedule: list[dict[str, Any]] = []
    schedule_timezone: str = "UTC"
    listen: Listen
    action: Action = Action()
    paths: Paths = Paths()
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _minimum_fits(self) -> "Config":
        if self.room is not None and self.policy.minimum > self.room:
            raise ValueError(
                f"policy.minimum {self.policy.minimum} is above room {self.room}, the instances that the application "
                "hosts hold: lower it, or add hosts"
            )
        return self

    @model_validator(mode="after")
    def _schedule_is_valid(self) -> "Config":
        scheduling.parse(self.schedule, self.schedule_timezone)
        return self

    @cached_property
    def calendar(self) -> scheduling.Schedule:
        return scheduling.parse(self.schedule, self.schedule_timezone)

    def placeable(self) -> tuple[Settings, str]:
        """The policy with a maximum that the hosts hold, and a warning if that is less than the configured one."""
        if self.room is None:
            return self.policy, ""
        room = self.room + (self.demand.hosts * self.demand.instances_per_host if self.demand else 0)
        if self.policy.maximum <= room:
            return self.policy, ""
        return replace(self.policy, maximum=room), (
            f"autoscaler_maximum is {self.policy.maximum}, but the application hosts hold {room} instances: "
            f"{room} is the maximum until there are more hosts, or phoenix_instances_per_host is raised"
        )


def load(path: Path) -> Config:
    """Read the file.

    Raises:
        ValueError: it can't be read or is invalid; the message names each invalid key, its value and what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Config.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    except ValidationError as error:
        errors = [
            f"{'.'.join(map(str, one['loc'])) or 'file'}: "
            f"{'unknown key' if one['type'] in UNKNOWN else one['msg']} (value: {one['input']!r:.80})"
            for one in error.errors()
        ]
        raise ValueError(f"{path} has {len(errors)} error(s):\n" + "\n".join(errors)) from error
