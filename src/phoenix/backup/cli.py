"""The command line; see the role's README for who runs what."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from phoenix.backup import logs, offsite, prove, restore, sender, watch
from phoenix.backup.serve import serve
from phoenix.backup.store import Config, Store

FOLDER = Path("/etc/phoenix/backup")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="phoenixctl backup", description="Backups of Phoenix.")
    parser.add_argument("--config", type=Path, default=FOLDER, help="folder of sender.json and store.json")
    verbs = parser.add_subparsers(dest="verb", required=True)
    dump = verbs.add_parser("dump", help="on a database host: see that the dump exists")
    dump.add_argument(
        "--unit", default="nightly", help="nightly, or manual-ID or safety-ID: one dump for all that name the ID"
    )
    verbs.add_parser("logs", help="on every host: send what was rotated")
    store = verbs.add_parser("store", help="what sshd runs for a sender's key")
    store.add_argument("--host", required=True)
    verbs.add_parser("prove", help="prove what is unproven")
    hold = verbs.add_parser("hold", help="serve one dump from the scratch server")
    accept = verbs.add_parser("accept", help="take a shrunken dump for good")
    made = verbs.add_parser("made", help="what became of manual-ID or safety-ID")
    for one in (hold, accept, made):
        one.add_argument("name")
    verbs.add_parser("tick", help="count the store's running time")
    verbs.add_parser("watch", help="write the metrics; fails when something is wrong")
    verbs.add_parser("offsite", help="copy what is good elsewhere, for phoenix-backup-offsite.service")
    verbs.add_parser("status", help="one line about the backups")
    verbs.add_parser("list", help="everything in the store")
    for name in ("plan", "restore", "verify"):
        one = verbs.add_parser(name, help="for playbooks/restore.yml: the order comes as JSON over standard input")
        if name == "plan":
            one.add_argument("--json", action="store_true", help='print {"dump": its name, "lines": [...]}')
    return parser.parse_args(arguments)


def on_sender(options: argparse.Namespace) -> int:
    config = sender.Config.read(options.config / "sender.json")
    try:
        if options.verb == "dump":
            kind, _, request = options.unit.partition("-")
            return sender.dump(config, kind, request)
        state = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/phoenix-backup-logs"))
        return logs.run(config, state, Path("/var/log/phoenix"))
    except sender.Failed as error:
        print(f"failed: {error}", file=sys.stderr)
        return sender.RETRY


def on_restore(store: Store, verb: str, as_json: bool = False) -> int:
    order = restore.read_order(sys.stdin.read())
    try:
        if verb == "verify":
            told = restore.verify(store, order)
            print("\n".join(told) or "equal to the manifest")
            return int(bool(told))
        if verb == "plan":
            name, lines = restore.plan(store, order)
            print(json.dumps({"dump": name, "lines": lines}) if as_json else "\n".join(lines))
        else:
            print(restore.run(store, order))
    except restore.Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    return 0


def on_store(options: argparse.Namespace) -> int:
    store = Store(Config.read(options.config / "store.json"))
    if options.verb == "tick":
        store.prepare()
        with store.books(quiet=True):
            return 0
    if options.verb in ("status", "list"):
        print(watch.look(store).line if options.verb == "status" else watch.table(store))
        return 0
    verbs: dict[str, Callable[[], int]] = {
        "store": lambda: serve(store, options.host, os.environ.get("SSH_ORIGINAL_COMMAND", "")),
        "prove": lambda: prove.run(store),
        "hold": lambda: prove.hold(store, options.name),
        "accept": lambda: prove.accept(store, options.name),
        "made": lambda: watch.made(store, options.name),
        "watch": lambda: watch.run(store),
        "offsite": lambda: offsite.run(store, Path(os.environ["CREDENTIALS_DIRECTORY"]) / "rclone"),
    }
    return (
        verbs[options.verb]()
        if options.verb in verbs
        else on_restore(store, options.verb, getattr(options, "json", False))
    )


def main(arguments: list[str]) -> int:
    # systemd ends units with SIGTERM: what was begun is cleared up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(arguments)
    return on_sender(options) if options.verb in ("dump", "logs") else on_store(options)
