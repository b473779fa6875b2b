"""From the scratch server to collections beside the live ones, compared there, and only then indexed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phoenix.backup import definitions, exchange, fingerprint, scope, scratch
from phoenix.backup.exchange import beside
from phoenix.backup.store import Store
from phoenix.database import tls


class Failed(Exception):
    """Copying failed, or the copy differs from the dump."""


@contextlib.contextmanager
def _secret(password: str) -> Iterator[list[str]]:
    """The tools' option for a password that is on no command line."""
    with tempfile.NamedTemporaryFile("w", prefix="phoenix-restore-") as secret:  # 0600
        json.dump({"password": password}, secret)
        secret.flush()
        yield [f"--config={secret.name}"] if password else []


def pipe(store: Store, source: Sequence[str], target: Sequence[str], login: Mapping[str, str], hosts: str) -> None:
    """mongodump of the scratch server into mongorestore of the live one. Raises Failed."""
    user = [f"--username={login['username']}", "--authenticationDatabase=admin"] if login else []
    with _secret(login.get("password", "")) as secret:
        reading = subprocess.Popen(
            [str(scratch.TOOLS / "mongodump"), f"--uri={scratch.uri(store)}", "--archive", "--quiet", *source],
            stdout=subprocess.PIPE,
        )
        writing = subprocess.run(
            [str(scratch.TOOLS / "mongorestore"), *secret, f"--host={hosts}", *user, "--archive",
             *tls.tool_options(store.config.ca),
             "--writeConcern={w: 'majority'}", "--stopOnError", "--bypassDocumentValidation", *target],
            stdin=reading.stdout, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert reading.stdout
        reading.stdout.close()
        if reading.wait() or writing.returncode:
            raise Failed(f"copying failed: {' | '.join(writing.stderr.splitlines()[-3:])}")


def prepare(source: Any, client: Any, names: Sequence[str]) -> None:
    """Make what mongorestore would make with an expiry: clustered collections, whose documents would be deleted."""
    for name in names:
        database, title = name.split(".", 1)
        options = definitions.options_of(source, name)
        if options.pop("expireAfterSeconds", None) is not None and "clusteredIndex" in options:
            client[database].command({"create": beside(title), **options})


def compare(client: Any, wanted: Mapping[str, fingerprint.Collection], source: Any) -> None:
    """Compare the copies' content with the manifest. Raises Failed when they differ."""
    copies = {f"{database}.{beside(title)}": f"{database}.{title}" for database, title in map(_parts, wanted)}
    copied = {copies[name]: one for name, one in fingerprint.take(client, copies).items()}
    # Collections that could not be read at the dump's moment are compared with the archive's content.
    uncounted = [name for name, one in wanted.items() if one.documents is None]
    expected = {**wanted, **fingerprint.take(source, uncounted)}
    if differences := fingerprint.differences(_contents(expected), _contents(copied)):
        raise Failed(f"the copy differs from the manifest: {'; '.join(differences[:5])}")


def index(source: Any, client: Any, names: Sequence[str]) -> None:
    """Build the copies' indexes and expiry settings; from here on the server may delete expired documents."""
    for name in names:
        database, title = name.split(".", 1)
        options = definitions.options_of(source, name)
        specifications = [
            definitions.indexed(dict(one), "collation" in options)
            for one in source[database][title].list_indexes()
            if one["name"] != "_id_" and not one.get("clustered")
        ]
        if specifications:
            client[database].command(
                {"createIndexes": beside(title), "indexes": specifications, "writeConcern": {"w": "majority"}}
            )
        if "clusteredIndex" in options and "expireAfterSeconds" in options:
            client[database].command({"collMod": beside(title), "expireAfterSeconds": options["expireAfterSeconds"]})
        made, there = (sorted(one[database][at].index_information()) for one, at in
                       ((client, beside(title)), (source, title)))  # fmt: skip
        if made != there:
            raise Failed(f"{name} has the indexes {made} instead of {there}")


def series(
    store: Store, source: Any, client: Any, where: Mapping[str, str], login: Mapping[str, str], hosts: str
) -> None:
    """Time series can't be renamed: they are made where they stay, by name, which is empty. Raises Failed."""
    for name, target in where.items():
        database, title = name.split(".", 1)
        # As a pattern, so that nothing in the name is one.
        prefix = target.split(".", 1)[1].removesuffix(title)
        chosen = []
        for buckets in ("", scope.BUCKETS) if prefix else ():  # the last that matches counts
            chosen += [f"--nsFrom=$db$.{buckets}$name$", f"--nsTo=$db$.{buckets}{prefix}$name$"]
        pipe(store, [f"--db={database}", f"--collection={title}"], chosen, login, hosts)
        if "expireAfterSeconds" in definitions.options_of(source, name):
            continue
        there, made = fingerprint.take(source, [name])[name], fingerprint.take(client, [target]).get(target)
        if differences := fingerprint.differences({target: there}, {target: made} if made else {}):
            raise Failed("; ".join(differences))


def views(source: Any, client: Any, database: str = "") -> list[str]:
    """Define the views, or those of a database, as in the dump; returns the errors. They are definitions, not data."""
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    failed = []
    for name in [database] if database else source.list_database_names():
        if name in fingerprint.SYSTEM_DATABASES:
            continue
        live = {one["name"] for one in client[name].list_collections(filter={"type": "view"})}
        for shown in source[name].list_collections(filter={"type": "view"}):
            title, options = shown["name"], shown["options"]
            try:
                if title in live and "collation" not in options:
                    definition = {"viewOn": options["viewOn"], "pipeline": options["pipeline"]}
                    client[name].command({"collMod": title, **definition})
                else:
                    client[name].drop_collection(title) if title in live else None
                    client[name].command({"create": title, **options})
            except PyMongoError as error:
                failed.append(f"the view {name}.{title} is not as in the dump: {str(error)[:200]}")
    return failed


def _parts(name: str) -> tuple[str, str]:
    database, title = name.split(".", 1)
    return database, title


def _contents(found: Mapping[str, fingerprint.Collection]) -> dict[str, fingerprint.Collection]:
    """Without the indexes, which come after the comparison."""
    return {name: fingerprint.Collection(one.documents, one.bytes, one.sha256, []) for name, one in found.items()}


def places(client: Any, names: Sequence[str], gone: Sequence[str]) -> tuple[list[exchange.Place], list[exchange.Place]]:
    """Namespaces of the live collections, and of their copies."""
    found = {name.split(".", 1)[0]: exchange.titles(client, name.split(".", 1)[0]) for name in (*names, *gone)}
    before, after = [], []
    for name in (*names, *gone):
        database, title = name.split(".", 1)
        before.append(exchange.Place(database, title, found[database].get(title)))
        copy = found[database][beside(title)] if name not in gone else None
        after.append(exchange.Place(database, title, copy))
    return before, after
