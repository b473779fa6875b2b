"""The provider's side of the contract, for providers written in Python: read a request, act, answer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from phoenix.provider import contract
from phoenix.provider.contract import Host, Limit, Spec


class Provider(Protocol):
    """What a provider does; each method raises contract.Error."""

    def list(self, fleet: str) -> Sequence[Host]: ...
    def create(self, fleet: str, name: str, spec: Spec) -> Host: ...
    def delete(self, fleet: str, identity: str) -> bool: ...
    def limit(self) -> int | None: ...


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Exclude other changes by this user: a creation that another one finds half done would be taken for a remnant."""
    folder = Path.home() / ".cache" / "phoenix"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "provider.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def answer(provider: Provider, request: contract.Request) -> dict[str, Any]:
    """Carry out one request. Raises contract.Error."""
    if request.action == "list":
        return {"hosts": [asdict(host) for host in provider.list(request.fleet)]}
    if request.action == "quota":
        return asdict(Limit(provider.limit(), len(provider.list(request.fleet))))
    with _one_at_a_time():
        if request.action == "delete":
            return {"deleted": provider.delete(request.fleet, request.id)}
        assert request.spec is not None
        known = provider.list(request.fleet)
        limit = provider.limit()
        if limit is not None and len(known) >= limit and request.name not in (host.name for host in known):
            raise contract.Quota(f"the fleet has {len(known)} hosts, and max_hosts of the settings is {limit}")
        return {"host": asdict(provider.create(request.fleet, request.name, request.spec))}


def serve(make: Callable[[Mapping[str, Any]], Provider]) -> int:
    """Answer the request on stdin; make: the provider for a request's settings, or a ValueError with the reason.

    Returns the exit status: 0, or 1 for an error, which is in the answer.
    """
    try:
        try:
            request = contract.request(json.load(sys.stdin))
            provider = make(request.settings)
        except ValueError as error:
            raise contract.Invalid(str(error)) from error
        print(json.dumps(answer(provider, request)))
        return 0
    except contract.Error as error:
        print(json.dumps({"error": {"class": error.kind, "message": str(error)}}))
    return 1
