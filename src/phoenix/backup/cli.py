"""The command line; see the role's README for who runs what."""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from phoenix.backup import (
    aside,
    exchange,
    inventory,
    logs,
    offsite,
    plan,
    prove,
    recovery,
    rekey,
    restore,
    sealed,
    sender,
    state,
    uploads,
    watch,
)
from phoenix.backup.held import held
from phoenix.backup.oplog import ship
from phoenix.backup.order import Refused, read_order
from phoenix.backup.serve import serve
from phoenix.backup.store import Config, Store

FOLDER = Path("/etc/phoenix/backup")
# watch writes root's metrics, restore starts units: root's commands otherwise act as the store's user, who must be able
# to read what they write.
AS_ROOT = ("watch", "restore")

# Of a recovery, on hosts that may not be configured yet; secrets come as JSON over standard input.
RECOVERY = {
    "copies": "the times of the copies off-site",
    "fetch": "bring the newest copy off-site back as the store in an empty folder",
    "note": "on the store: keep the present password beside offsite.json before another one is written",
    "rekey": "on the store: have the copy off-site take the password that comes as JSON over standard input alone",
    "holdings": "what the store in a folder holds",
    "unpack": "write a host's state back from a sealed archive",
    "reveal": "the files of a sealed inventory",
    "pack-inventory": "where Ansible runs: the inventory in a folder, for keep-inventory",
    "unpack-inventory": "where Ansible runs: write what is missing in a folder from what reveal gave",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="phoenixctl backup", description="Backups of Phoenix.")
    parser.add_argument("--config", type=Path, default=FOLDER, help="folder of sender.json and store.json")
    verbs = parser.add_subparsers(dest="verb", required=True)
    dump = verbs.add_parser("dump", help="on a database host: see that the dump exists")
    dump.add_argument(
        "--unit", default="nightly", help="nightly, or manual-ID or safety-ID: one dump for all that name the ID"
    )
    verbs.add_parser("ship-oplog", help="on a database host: send the oplog, for phoenix-oplog.service")
    verbs.add_parser("logs", help="on every host: send what was rotated")
    verbs.add_parser("state", help="on every host: send its state, encrypted for the operators")
    store = verbs.add_parser("store", help="what sshd runs for a sender's key")
    store.add_argument("--host", required=True)
    store.add_argument("--dumps", action="store_true", help="the host is a member of the replica set")
    verbs.add_parser("prove", help="verify unproven dumps by restoring them")
    hold = verbs.add_parser("hold", help="serve one dump from the scratch server")
    accept = verbs.add_parser("accept", help="accept a shrunken dump, or HOST/NAME of files, as good")
    made = verbs.add_parser("made", help="what became of manual-ID or safety-ID")
    for one in (hold, accept, made):
        one.add_argument("name")
    verbs.add_parser("tick", help="count the store's running time")
    verbs.add_parser("watch", help="write the metrics; fails when something is wrong")
    verbs.add_parser("offsite", help="copy what is good off-site, for phoenix-backup-offsite.service")
    verbs.add_parser("sealed", help="whether the newest archives are for the present recipients alone")
    verbs.add_parser("keep-inventory", help="keep the inventory that comes over standard input, encrypted")
    for name, what in RECOVERY.items():
        one = verbs.add_parser(name, help=f"for playbooks: {what}")
        if name not in ("copies", "note", "rekey"):
            one.add_argument("path", type=Path)
    verbs.add_parser("status", help="one line about the backups")
    verbs.add_parser("list", help="everything in the store")
    for name in ("plan", "covered", "restore", "verify", "list-aside", "put-back", "drop-aside"):
        one = verbs.add_parser(name, help="for the playbooks of a restore: the order comes as JSON over standard input")
        one.add_argument("--order", type=Path, help="or in this file, which is removed")
        if name == "plan":
            one.add_argument(
                "--json", action="store_true", help='print {"dump": its name, "lines": [...], "covered": ...}'
            )
    return parser.parse_args(arguments)


def on_sender(options: argparse.Namespace) -> int:
    config = sender.Config.read(options.config / "sender.json")
    try:
        if options.verb == "dump":
            kind, _, request = options.unit.partition("-")
            return sender.dump(config, kind, request)
        if options.verb == "ship-oplog":
            return ship.run(config)
        if options.verb == "state":
            return state.run(config, Path(os.environ["STATE_DIRECTORY"]))
        own = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/phoenix-backup-logs"))
        return logs.run(config, own, Path("/var/log/phoenix"))
    except sender.Failed as error:
        print(f"failed: {error}", file=sys.stderr)
        return sender.SETTLED if isinstance(error, sender.Final) else sender.RETRY


def on_restore(store: Store, options: argparse.Namespace) -> int:
    verb = options.verb
    if options.order:
        text = options.order.read_text(encoding="utf-8")
        options.order.unlink()
    order = read_order(text if options.order else sys.stdin.read())
    try:
        if verb == "verify":
            differences = restore.verify(store, order)
            print("\n".join(differences) or "equal to the manifest")
            return int(bool(differences))
        if verb == "plan":
            name, lines = plan.plan(store, order)
            planned = {"dump": name, "lines": lines, "covered": plan.covered(store, order)}
            print(json.dumps(planned) if options.json else "\n".join(lines))
            return 0
        if verb == "covered":
            return int(not plan.covered(store, order))
        verbs = {
            "restore": restore.run,
            "list-aside": aside.show,
            "put-back": aside.put_back,
            "drop-aside": aside.drop,
        }
        with held(order.lock):
            print(verbs[verb](store, order))
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except exchange.Mixed as error:
        print(
            f"some collections are the dump's and some the live ones: {error}. Nothing is lost: see list-aside, then "
            "put back what was set aside, or restore again (docs/runbook.md)",
            file=sys.stderr,
        )
        return 1
    return 0


def become_owner(folder: Path) -> None:
    """Switch from root to the folder's owner; other users stay as they are."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def on_store(options: argparse.Namespace) -> int:
    store = Store(Config.read(options.config / "store.json"))
    if options.verb not in AS_ROOT:
        become_owner(store.root)
        store.prepare()
    if options.verb == "tick":
        # On a full disk the elapsed time can't be recorded; the watch must report the full disk all the same.
        try:
            with store.books(quiet=True):
                return 0
        except OSError as error:
            print(f"the store's running time can't be recorded: {error}", file=sys.stderr)
            return 0
    if options.verb in ("status", "list"):
        print(watch.look(store).line if options.verb == "status" else watch.table(store))
        return 0
    verbs: dict[str, Callable[[], int]] = {
        "store": lambda: serve(store, options.host, os.environ.get("SSH_ORIGINAL_COMMAND", ""), options.dumps),
        "prove": lambda: prove.run(store),
        "hold": lambda: prove.hold(store, options.name),
        "accept": lambda: (uploads if "/" in options.name else prove).accept(store, options.name),
        "made": lambda: watch.made(store, options.name),
        "watch": lambda: watch.run(store),
        "offsite": lambda: offsite.run(store, offsite.Settings.read(options.config / "offsite.json")),
        "keep-inventory": lambda: keep_inventory(store),
        "sealed": lambda: check_sealed(store),
    }
    return verbs[options.verb]() if options.verb in verbs else on_restore(store, options)


def keep_inventory(store: Store) -> int:
    changed = inventory.keep(store, base64.b64decode(json.load(sys.stdin)["archive"]))
    print(json.dumps({"changed": changed}))
    return 0


def check_sealed(store: Store, recipients: Path = sealed.RECIPIENTS) -> int:
    """Whether the newest state of each host, and the inventory, are for the present recipients alone."""
    wanted = sealed.marks(recipients.read_text(encoding="utf-8").splitlines())
    folders = [path for path in sorted((store.root / "logs").iterdir()) if path.is_dir()]
    newest = [(folder.name, path) for folder in folders for path in state.newest(folder).values()]
    others = [f"{host}: {path.name}" for host, path in newest if sealed.sealed_for(path) != wanted]
    print("\n".join(others) if others else f"{len(newest)} archives are for the {len(wanted)} present recipients alone")
    return int(bool(others))


def on_recovery(options: argparse.Namespace) -> int:
    path: Path = getattr(options, "path", Path())
    try:
        if options.verb == "copies":
            print(json.dumps(offsite.copies(offsite.Settings.read(options.config / "offsite.json"))))
        elif options.verb == "fetch":
            print(json.dumps(offsite.fetch(path, offsite.Settings.read(options.config / "offsite.json"))))
        elif options.verb in ("note", "rekey"):
            act = rekey.note if options.verb == "note" else rekey.rekey
            print(json.dumps(act(options.config / "offsite.json", json.load(sys.stdin)["password"])))
        elif options.verb == "holdings":
            print(json.dumps(recovery.holdings(path)))
        elif options.verb == "pack-inventory":
            archive, left_out = inventory.pack(path)
            print(json.dumps({"archive": base64.b64encode(archive).decode(), "left_out": left_out}))
        else:
            order = json.load(sys.stdin)
            if options.verb == "unpack":
                print("\n".join(state.unpack(path, order["identity"], order["within"])))
            elif options.verb == "reveal":
                print(json.dumps(inventory.reveal(path, order["identity"])))
            else:
                written, differ = inventory.bring_back(path, order)
                print(json.dumps({"written": written, "differ": differ}))
    except (offsite.Refused, sealed.Unsealed) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    # systemd ends units with SIGTERM: what was begun is cleared up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(arguments)
    if options.verb in RECOVERY:
        return on_recovery(options)
    return on_sender(options) if options.verb in ("dump", "logs", "ship-oplog", "state") else on_store(options)
