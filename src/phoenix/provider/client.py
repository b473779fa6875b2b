"""Runs a provider: one process per action, a request on stdin, an answer on stdout, within a time limit.

Nothing that a provider prints is trusted: an answer that is late, too long or not in the contract's terms is the error
Unavailable, after which nobody knows what was done; the next `list` says.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar

from phoenix.provider import contract
from phoenix.provider.contract import Host, Invalid, Limit, Request, Spec, Unavailable

# Seconds. A provider answers `create` when the host exists, not when it has booted.
TIME_LIMITS: Mapping[str, float] = {"list": 30, "quota": 30, "create": 300, "delete": 120}
MAX_ANSWER = 1 << 20
MAX_MESSAGE = 4096  # of stderr, its end
# A request must fit into a pipe's buffer, so that a provider which does not read it can't hold up its client.
MAX_REQUEST = 60_000
POLL_SECONDS = 0.05
Read = TypeVar("Read")


@dataclass(frozen=True)
class Client:
    """A provider: the command that speaks the contract, and the fleet's tag, which every request has."""

    command: Sequence[str]
    fleet: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    time_limits: Mapping[str, float] = field(default_factory=lambda: TIME_LIMITS)
    environment: Mapping[str, str] = field(default_factory=dict)

    def list(self) -> Sequence[Host]:
        """The hosts with the fleet's tag. Raises contract.Error."""
        return self._read(contract.hosts, self._run(Request("list", self.fleet, self.settings)))

    def create(self, name: str, spec: Spec) -> Host:
        """Create a host, or return the one that has this name already. Raises contract.Error."""
        answer = self._run(Request("create", self.fleet, self.settings, name=name, spec=spec))
        return self._read(lambda value: contract.created(value, name), answer)

    def delete(self, identity: str) -> bool:
        """Delete a host; False: there was none. Raises contract.Error."""
        return self._read(contract.deleted, self._run(Request("delete", self.fleet, self.settings, id=identity)))

    def quota(self) -> Limit:
        """How many hosts are allowed. Raises contract.Error."""
        return self._read(contract.limit, self._run(Request("quota", self.fleet, self.settings)))

    def _read(self, reader: Callable[[Any], Read], answer: Any) -> Read:
        try:
            return reader(answer)
        except ValueError as error:
            raise Unavailable(f"{self.command[0]} answered out of the contract: {error}") from error

    def _run(self, request: Request) -> Any:
        try:
            contract.request(request.json())  # the provider would refuse it, if it is careful
        except ValueError as error:
            raise Invalid(str(error)) from error
        text = json.dumps(request.json()).encode()
        if len(text) > MAX_REQUEST:
            raise Invalid(f"the request has {len(text)} bytes, and {MAX_REQUEST} are allowed: shorten the settings")
        output, messages, status = run(
            self.command, text, self.time_limits[request.action], {**os.environ, **self.environment}
        )
        said = f": {messages.strip()}" if messages.strip() else ""
        try:
            answer = json.loads(output)
            problem = contract.error(answer)
        except (ValueError, RecursionError) as error:
            raise Unavailable(
                f"{self.command[0]} answered {output[:100].decode(errors='replace')!a} to {request.action}, "
                f"exit status {status}, which is not the contract's JSON ({error}){said}"
            ) from error
        if problem is not None:
            raise problem
        if status:
            raise Unavailable(f"{self.command[0]} ended with status {status} at {request.action}{said}")
        return answer


def run(command: Sequence[str], text: bytes, seconds: float, environment: Mapping[str, str]) -> tuple[bytes, str, int]:
    """Run a command and return its output, the end of its messages, and its exit status.

    Raises:
        Unavailable: it can't be started, takes too long, or prints too much; it and its children are ended then.
    """
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} can't be started: {error}") from error
    try:
        assert process.stdin and process.stdout and process.stderr
        with contextlib.suppress(BrokenPipeError):  # it may answer without reading
            process.stdin.write(text)
            process.stdin.close()
        output, messages = _gather(process, process.stdout, process.stderr, command[0], seconds)
        return output, messages.decode("ascii", "backslashreplace"), process.returncode
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _gather(
    process: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes], name: str, seconds: float
) -> tuple[bytes, bytes]:
    """Read until the process has ended and nothing is left in the pipes, which a child of it may keep open."""
    gathered = {stdout.fileno(): bytearray(), stderr.fileno(): bytearray()}
    answer, messages = gathered.values()
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for descriptor in gathered:
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            ready = selector.select(POLL_SECONDS)
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                gathered[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
            del messages[:-MAX_MESSAGE]
            if len(answer) > MAX_ANSWER:
                raise Unavailable(f"{name} answered more than {MAX_ANSWER} bytes")
            if ended and not ready:
                return bytes(answer), bytes(messages)
            if time.monotonic() >= deadline:
                raise Unavailable(f"{name} took longer than {seconds:g} s and was ended")
