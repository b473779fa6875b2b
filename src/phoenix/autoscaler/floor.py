"""A minimum for a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """The instances that run at least, and where that comes from."""

    count: int
    source: str
