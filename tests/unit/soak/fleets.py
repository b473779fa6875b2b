"""Fleets as `soak.found` sees them."""

from __future__ import annotations

from typing import Any

from soak.found import Found, normal

RECORD = {
    "drained": {},
    "maintenance": False,
    "lost": {},
    "capacity": 2,
    "release": "1",
    "configuration": {"app1": "c"},
}


def status(**own: Any) -> dict[str, Any]:
    return normal({"version": "1", "system": "running", "failed": [], "instances": [], **own})


def fleet(record: dict[str, Any] | None = None, rotation: int = 2, **hosts: dict[str, Any]) -> Found:
    known = {
        "app1": status(instances=["3000", "3900"], release="1"),
        "db1": status(database="PRIMARY"),
        "db2": status(database="SECONDARY"),
        "db3": status(database="SECONDARY"),
        "lb1": status(floating={"192.0.2.10": True}),
        "lb2": status(floating={"192.0.2.10": False}),
    }
    return Found({**known, **hosts}, {**RECORD, **(record or {})}, {"lb1": rotation, "lb2": 2})
