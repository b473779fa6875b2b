"""The configuration file: typed, every key known, refused as a whole when anything in it is wrong."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Seconds = Annotated[float, Field(gt=0, le=86400)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Policy(Model):
    """What policy.decide goes by; the meaning of each is in docs/decisions/0020-when-to-scale.md."""

    target: Annotated[float, Field(gt=0)] = 10.0  # requests a second for one instance
    minimum: Annotated[int, Field(ge=1)] = 1
    maximum: Annotated[int, Field(ge=1)]
    panic_seconds: Annotated[int, Field(ge=2, le=30)] = 6
    stable_seconds: Annotated[int, Field(ge=10, le=600)] = 60
    long_seconds: Annotated[int, Field(ge=60, le=3600)] = 600
    stabilisation_seconds: Seconds = 300.0
    calm: Annotated[float, Field(gt=0, le=1)] = 0.95  # share of the capacity whose noise is never acted on
    significance: Annotated[float, Field(ge=0, le=10)] = 5.0  # standard deviations
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _ordered(self) -> "Policy":
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}: lower one or raise the other")
        if not self.panic_seconds < self.stable_seconds < self.long_seconds:
            raise ValueError("panic_seconds, stable_seconds and long_seconds have to grow in this order")
        return self


class Listen(Model):
    """Where datagrams are heard, unless systemd hands a socket over, and from whom."""

    address: IPv4Address | IPv6Address
    port: Port
    balancers: Annotated[list[IPv4Address | IPv6Address], Field(min_length=1)]
    silent_seconds: Seconds = 3.0


class Action(Model):
    """How scale.yml is run."""

    ansible: Path = Path("/opt/phoenix/runner/venv/bin")
    project: Path = Path("/opt/phoenix/runner/project")
    inventory: Path = Path("/opt/phoenix/runner/inventory.yml")
    timeout_seconds: Seconds = 180.0
    retry_seconds: Seconds = 5.0  # doubled with each failure in a row
    retry_most_seconds: Seconds = 300.0


class Paths(Model):
    state: Path = Path("/var/lib/phoenix/state")
    own: Path = Path("/var/lib/phoenix/autoscaler")


class Metrics(Model):
    address: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    port: Port = 9109


class Config(Model):
    policy: Policy
    listen: Listen
    action: Action = Action()
    paths: Paths = Paths()
    metrics: Metrics = Metrics()


def load(path: Path) -> Config:
    """Read the file.

    Raises:
        ValueError: it can't be read, or is wrong; the text names each key with what is wrong about it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Config.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']} (seen: {one['input']!r:.80})"
            for one in error.errors()
        ]
        raise ValueError(f"{path} has {len(faults)} fault(s):\n" + "\n".join(faults)) from error
