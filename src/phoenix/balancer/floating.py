"""The floating addresses on this load balancer: which of them it holds, and giving them up on purpose.

  phoenixctl floating show                 which addresses this host holds, as JSON; status 1 when it could hold none
  phoenixctl floating leave [ADDRESS]...   gives these up (all, without one), so that another balancer takes them

keepalived decides who holds an address, by VRRP. It watches files of FOLDER: nginx's unit writes whether nginx runs,
and `leave` for a moment that an address is not wanted here. The one that took it meanwhile keeps it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

CONFIGURATION = Path("/etc/phoenix/floating.json")
FOLDER = Path("/run/phoenix-floating")
GIVE_UP_S = 5.0  # for keepalived, which takes some milliseconds
STAY_AWAY_S = 2.0  # longer than another balancer needs to take the address, at either pace


def addresses() -> list[str]:
    """The fleet's floating addresses; [] on a host that takes none of them."""
    try:
        return [str(address) for address in json.loads(CONFIGURATION.read_text(encoding="utf-8"))["addresses"]]
    except FileNotFoundError:
        return []


def own(shown: str) -> set[str]:
    """The addresses in the output of `ip -json address`."""
    return {
        str(known["local"]) for link in json.loads(shown) for known in link.get("addr_info", []) if "local" in known
    }


def held(wanted: Iterable[str]) -> dict[str, bool]:
    """Whether this host's interfaces have each of these addresses: the kernel knows, a record may be wrong."""
    command = ["ip", "-json", "address"]
    here = own(subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout)
    return {address: address in here for address in wanted}


def obstacle() -> str:
    """Why this host could not take an address now; "" when it could."""
    if subprocess.run(["systemctl", "is-active", "--quiet", "keepalived.service"], check=False).returncode:
        return "keepalived does not run: systemctl status keepalived"
    for path in sorted(FOLDER.iterdir()):
        if path.read_text(encoding="ascii").strip() != "0":
            return f"{path} is not 0: " + ("systemctl status nginx" if path.name == "nginx" else "it is being moved")
    probe = subprocess.run(["/usr/local/lib/phoenix/nginx-answers"], capture_output=True, timeout=5, check=False)
    return "nginx does not answer: systemctl status nginx" if probe.returncode else ""


def leave(unwanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """Stay away from these addresses for a moment; return those that this host had to keep."""
    files = {address: FOLDER / f"away-{known.index(address) + 1}" for address in unwanted}
    try:
        for path in files.values():
            path.write_text("1\n", encoding="ascii")
        deadline = time.monotonic() + GIVE_UP_S
        while any(held(unwanted).values()) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(STAY_AWAY_S)
        return [address for address, here in held(unwanted).items() if here]
    finally:
        for path in files.values():
            path.write_text("0\n", encoding="ascii")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("show")
    verbs.add_parser("leave").add_argument("address", nargs="*")
    parsed = parser.parse_args(arguments)
    known = addresses()
    if parsed.verb == "show":
        print(json.dumps({"held": held(known), "obstacle": (reason := obstacle() if known else "")}))
        return 1 if reason else 0
    unwanted = parsed.address or known
    if strange := [address for address in unwanted if address not in known]:
        print(f"floating: {', '.join(strange)}: not among {', '.join(known) or 'none'}", file=sys.stderr)
        return 64
    # However it is ended, the files must not stay: this balancer would take no address until its next boot.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    if kept := leave(unwanted, known):
        print(f"floating: {', '.join(kept)} is still here: journalctl -u keepalived", file=sys.stderr)
        return 1
    return 0
