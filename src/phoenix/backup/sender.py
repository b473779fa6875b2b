"""Take a dump on a database host and stream it to the store; no copy is kept here."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import select
import shlex
import subprocess
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from phoenix.backup import archive, catalogue, fingerprint, frames, left_out, member, scratch
from phoenix.database import tls

PIECE = 1024 * 1024
PIPE_SIZE = 1031  # fcntl's F_SETPIPE_SZ, which Python names from 3.10 on
# Exit codes: the state of the dump is known and trying again would not change it; another try may help.
SETTLED, RETRY = 3, 1
WINDOW = "minSnapshotHistoryWindowInSeconds"
SNAPSHOT_TOO_OLD = 239
# Of servers before 6.0, for an index with options that only former versions accepted.
UNPARSED = 5254501


class Failed(Exception):
    """The attempt failed; the next one may not."""


class PartlyRefused(Failed):
    """The store refuses some files, and holds the others. held: the names of these."""

    def __init__(self, refused: Sequence[str], held: Sequence[str]) -> None:
        super().__init__(f"the store refuses {'; '.join(refused)}")
        self.held = list(held)


class Final(Failed):
    """Nor will the next one succeed, until something is changed as the message says."""


@dataclass(frozen=True)
class Config:
    """Of /etc/phoenix/backup/sender.json. Times in seconds.

    members: addresses of the replica set's members, own among them; empty on hosts that only send logs. oplog_seconds,
    oplog_bytes: when a segment of the oplog is closed. mongod: address at which this host reaches its own member.
    state: the parts of its state, see there. ca: path of the CAs by which members are reached by TLS; "" without.
    """

    host: str
    store: str
    fleet: str
    replica_set: str
    own: str
    members: list[str]
    port: int
    user: str
    max_lag: float
    patience: float
    logs: list[str]
    journal_units: list[str]
    key: str = "/etc/phoenix/backup/id_ed25519"
    known_hosts: str = "/etc/phoenix/backup/known_hosts"
    password: str = "/etc/phoenix/backup/mongodb.json"
    oplog_seconds: float = 3.0
    oplog_bytes: int = 1024 * 1024
    mongod: str = "127.0.0.1"
    state: Sequence[Mapping[str, Any]] = ()
    store_port: int = 22
    ca: str = ""

    @staticmethod
    def read(path: Path) -> Config:
        """Raises OSError, ValueError or TypeError when the file is missing or wrong.

        systemd's credentials, where there are any, come before the files that only root may read.
        """
        config = Config(**json.loads(path.read_text(encoding="utf-8")))
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if not credentials:
            return config
        given = {
            name: str(Path(credentials) / name) for name in ("key", "password") if (Path(credentials) / name).exists()
        }
        return Config(**{**vars(config), **given})


class Session:
    """One session with the store."""

    def __init__(self, config: Config, *command: str) -> None:
        self.process = subprocess.Popen(
            ["ssh", "-F", "none", "-T", "-i", config.key, "-p", str(config.store_port),
             "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
             "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={config.known_hosts}",
             "-o", "GlobalKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10",
             "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR", f"phoenix-backup@{config.store}",
             shlex.join(command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.frames = frames.Sender(self.process.stdin)
        self._answers = self.process.stdout

    def answers(self, seconds: float) -> bool:
        """Whether the store gives an answer, or ends the session, within so many seconds."""
        return bool(select.select([self._answers], [], [], seconds)[0])

    def answer(self) -> dict[str, Any]:
        """The store's next line. Raises Failed when there is no answer."""
        line = self._answers.readline()
        try:
            value = json.loads(line)
        except ValueError as error:
            raise Failed(
                f"the store gave no answer ({line.decode(errors='replace').strip() or 'no connection'})"
            ) from error
        if not isinstance(value, dict):
            raise Failed(f"the store gave an answer of another kind: {value}")
        return value

    def last_words(self, otherwise: str) -> str:
        """The store's reason for giving up, if it gave one."""
        try:
            return str(self.answer().get("reason", otherwise))
        except Failed:
            return otherwise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.frames.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _dump_command(config: Config) -> list[str]:
    return [
        str(scratch.TOOLS / "mongodump"), f"--config={config.password}", f"--username={config.user}",
        "--authenticationDatabase=admin", f"--host={config.mongod}", f"--port={config.port}",
        *tls.tool_options(config.ca), "--oplog", "--gzip", "--archive",
    ]  # fmt: skip


def too_large(window: float, seconds: float, read: int, total: int) -> str:
    """Pure: why a dump can't be verified. read, total: bytes of the collections, read in that time and in all."""
    needed = max(2 * window, seconds * total / max(read, 1) / 0.7)
    return (
        f"the server keeps the moment of a dump for {window:.0f} s, and reading the collections takes longer: after "
        f"{seconds:.0f} s {read} of {total} bytes were read. Set mongodb_set_parameter: {{{WINDOW}: "
        f"{math.ceil(needed / 60) * 60}}}"
    )


def complaint(lines: Iterable[str]) -> str:
    """Pure: the errors in a MongoDB tool's last lines, each of which begins with the time."""
    texts = [line.partition("\t")[2].strip() or line for line in lines]
    return " | ".join([line for line in texts if line.startswith(("Failed", "error"))] or texts[-2:])


def unlisted(names: Sequence[str]) -> str:
    """Pure: why mongodump can't read some collections, and what to run for each."""
    commands = [
        f"db.getSiblingDB({json.dumps(database)}).runCommand({{collMod: {json.dumps(title)}}})"
        for database, _, title in (name.partition(".") for name in names[:10])
    ]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (
        f"this version of MongoDB can't list the indexes of {', '.join(names[:10])}{more}: they have options of a "
        f"former version. Run as admin, on the primary, what drops these options and keeps the indexes: "
        f"{'; '.join(commands)}"
    )


@contextlib.contextmanager
def _mongodump(config: Config) -> Iterator[tuple[subprocess.Popen[bytes], deque[str]]]:
    """The running mongodump and its last lines; it ends with the block."""
    lines: deque[str] = deque(maxlen=20)
    process = subprocess.Popen(_dump_command(config), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    # mongodump goes on while a piece is examined and sent.
    fcntl.fcntl(process.stdout, PIPE_SIZE, PIECE)

    def listen(stream: IO[bytes]) -> None:
        for line in stream:
            lines.append(line.decode(errors="replace").strip())

    listener = threading.Thread(target=listen, args=(process.stderr,), daemon=True)
    listener.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()
        listener.join(5)


def connect(config: Config, seconds: float = 600.0) -> Any:
    """A client of this host's member. seconds: for an answer."""
    import pymongo  # noqa: PLC0415 - only database hosts have it

    password = json.loads(Path(config.password).read_text(encoding="utf-8"))["password"]
    return pymongo.MongoClient(
        config.mongod, config.port, directConnection=True, username=config.user, password=password,
        serverSelectionTimeoutMS=10000, socketTimeoutMS=int(seconds * 1000), **tls.options(config.ca),
    )  # fmt: skip


def _unlisted(config: Config) -> list[str]:
    """Collections whose indexes the member can't list; empty where it can't be asked."""
    from pymongo.errors import OperationFailure, PyMongoError  # noqa: PLC0415 - only database hosts have it

    found = []
    with contextlib.suppress(PyMongoError), contextlib.closing(connect(config)) as client:
        for name in client.list_database_names():
            for shown in client[name].list_collections() if name != "local" else ():
                if shown.get("type") == "view":
                    continue
                try:
                    list(client[name][shown["name"]].list_indexes())
                except OperationFailure as error:
                    found += [f"{name}.{shown['name']}"] if error.code == UNPARSED else []
    return sorted(found)


def _named(config: Config, since: float, describe: Callable[[list[Mapping[str, Any]]], str]) -> str:
    """The description of the catalogue's changes since then; empty where the member can't be asked."""
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - only database hosts have it

    with contextlib.suppress(PyMongoError), contextlib.closing(connect(config)) as client:
        return describe(catalogue.take(client, since))
    return ""


def _transfer(config: Config, session: Session, reason: str) -> dict[str, Any]:
    """Dump, stream, read the member's own counts and hashes at the dump's moment. Returns the manifest.

    Raises Failed, frames.Broken.
    """
    from bson import Timestamp  # noqa: PLC0415 - only database hosts have it
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    started, begun = time.time(), time.monotonic()
    checksum, size, end = hashlib.sha256(), 0, archive.OplogEnd()
    with _mongodump(config) as (process, lines):
        assert process.stdout
        try:
            while piece := os.read(process.stdout.fileno(), PIECE):
                session.frames.send(frames.DATA, piece)
                checksum.update(piece)
                size += len(piece)
                end.feed(piece)
        except zlib.error as error:
            raise Failed(f"mongodump's archive is damaged: {error}") from error
        if process.wait() != 0:
            time.sleep(0.2)
            text = complaint(lines)
            if f"Location{UNPARSED}" in text and (names := _unlisted(config)):
                raise Final(unlisted(names))
            if catalogue.RENAMES in text and (reason := _named(config, started, catalogue.renamed)):
                raise Failed(reason)
            raise Failed(f"mongodump ended with {process.returncode}: {text}")
    try:
        end.close()
    except (ValueError, zlib.error) as error:
        raise Failed(str(error)) from error
    dumped = time.monotonic() - begun
    assert end.moment
    read = [0]

    def count(size: int) -> None:
        read[0] += size

    try:
        with contextlib.closing(connect(config)) as client:
            version = client.server_info()["version"]
            window = client.admin.command("getParameter", 1, **{WINDOW: 1})[WINDOW]
            found = fingerprint.take(client, moment=Timestamp(*end.moment), read=count)
            others = left_out.take(client)
    except PyMongoError as error:
        if getattr(error, "code", None) == SNAPSHOT_TOO_OLD:
            taken = time.monotonic() - begun - dumped
            raise Final(too_large(window, taken, read[0], end.bytes)) from error
        if getattr(error, "code", None) == catalogue.CHANGED and (reason := _named(config, started, catalogue.changed)):
            raise Failed(reason) from error
        raise Failed(f"the member could not be read at the dump's moment {end.moment}: {str(error)[:300]}") from error
    return {
        "format": fingerprint.FORMAT,
        "fleet": config.fleet,
        "replica_set": config.replica_set,
        "member": config.host,
        "chosen": reason,
        "server_version": version,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "moment": list(end.moment),
        "moment_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end.moment[0])),
        "dump_seconds": round(dumped, 3),
        "window_seconds": window,
        "hash_seconds": round(time.monotonic() - begun - dumped, 3),
        "size": size,
        "sha256": checksum.hexdigest(),
        "namespaces": fingerprint.to_json(found),
        "left_out": others,
    }


def attempt(config: Config, kind: str, request: str) -> dict[str, Any]:
    """Request the task from the store, and do it if granted. Returns the store's last answer.

    Raises Failed.
    """
    decision = member.decide(config.own, member.look(config.members, config.port, config.ca), config.max_lag)
    order = json.dumps({"kind": kind, "request": request, "ready": decision.dump, "reason": decision.reason})
    with Session(config, "dump", order) as session:
        answer = session.answer()
        if answer["answer"] != "go":
            return {**answer, "reason": answer.get("reason") or decision.reason}
        print(f"dumping as {answer['name']}: {decision.reason}", flush=True)
        try:
            manifest = _transfer(config, session, decision.reason)
            session.frames.send_json(frames.END, manifest)
        except Failed as error:
            with contextlib.suppress(frames.Broken):
                session.frames.send_json(frames.ABORT, {"reason": str(error)})
            raise
        except frames.Broken as error:
            raise Failed(session.last_words(str(error))) from error
        return session.answer()


def dump(config: Config, kind: str, request: str) -> int:
    """Ensure that the dump exists, taken here or by another member, and wait for its proof. Returns the exit code."""
    deadline = time.monotonic() + config.patience
    reported = ""
    while True:
        answer = attempt(config, kind, request)
        if answer["answer"] in ("stored", "have"):
            break
        if answer["answer"] not in ("busy", "wait"):
            raise Failed(f"the store refuses: {answer.get('reason', answer)}")
        if time.monotonic() > deadline:
            raise Failed(f"no dump after {config.patience:g} s: {answer['reason']}")
        if reported != answer["reason"]:
            reported = answer["reason"]
            print(f"waiting: {reported}", flush=True)
        time.sleep(5)
    mine = answer["answer"] == "stored"
    print(f"{answer['name']}: {'stored' if mine else 'there already'}, waiting for its proof", flush=True)
    while True:
        with Session(config, "await", answer["name"]) as session:
            proof = session.answer()
        if proof["state"] != "unproven":
            break
        if time.monotonic() > deadline:
            raise Failed(f"{answer['name']} is not proven after {config.patience:g} s")
    print(f"{answer['name']}: {proof['state']}{': ' + proof['reason'] if proof.get('reason') else ''}", flush=True)
    if proof["state"] == "good" or not mine:
        return 0
    if kind == "safety" and proof["state"] in ("shrunken", "empty"):
        return 0
    return SETTLED if proof["state"] in ("shrunken", "empty") else RETRY


def _send(session: Session, name: str, path: Path | Callable[[], Path]) -> dict[str, Any]:
    """Offer a file, and send it if the store wants it. Returns the store's answer, {} where the file is gone.

    Raises Failed, frames.Broken, OSError.
    """
    with contextlib.ExitStack() as opened:
        stream, size = None, 0
        if isinstance(path, Path):
            # Held open: its log may be rotated meanwhile.
            with contextlib.suppress(FileNotFoundError):
                stream = opened.enter_context(path.open("rb"))
            if stream is None:
                return {}
            size = os.fstat(stream.fileno()).st_size
        session.frames.send_json(frames.FILE, {"name": name, "size": size})
        answer = session.answer()
        if answer["answer"] != "send":
            return answer
        if stream is None:
            stream = opened.enter_context(path().open("rb"))  # type: ignore[operator]
        checksum = hashlib.sha256()
        while piece := stream.read(PIECE):
            checksum.update(piece)
            session.frames.send(frames.DATA, piece)
        session.frames.send_json(frames.END, {"sha256": checksum.hexdigest()})
        answer = session.answer()
    if answer["answer"] != "stored":
        raise Failed(f"the store refuses {name}: {answer.get('reason', answer)}")
    return answer


def send_files(config: Config, found: Sequence[tuple[str, Path | Callable[[], Path]]]) -> list[str]:
    """Add files to the store. found: name there, and the file here or what makes it where the store does not have it.

    Returns the names that the store now holds. Raises Failed, PartlyRefused after all others were sent, OSError.
    """
    held, refused = list[str](), list[str]()
    with Session(config, "logs") as session:
        try:
            for name, path in found:
                answer = _send(session, name, path)
                if answer.get("answer") in ("stored", "have"):
                    held.append(name)
                elif answer.get("answer") == "refused":
                    refused.append(f"{name}: {answer.get('reason', answer)}")
                elif answer:
                    raise Failed(f"the store refuses {name}: {answer.get('reason', answer)}")
            session.frames.send_json(frames.END, {"files": len(held)})
            session.answer()
        except frames.Broken as error:
            # A store of before 0.19 ends the session where it refuses a file.
            raise Failed("; ".join(refused) or session.last_words(str(error))) from error
    if refused:
        raise PartlyRefused(refused, held)
    return held
