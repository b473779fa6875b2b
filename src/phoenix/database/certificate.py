"""This member's certificate: when it has to be issued again, the request for it, and what is put in its place.

  phoenixctl member due      prints {reason, other_ca} for {authority, names, again} on standard input
  phoenixctl member refuse   fails where {bundle} on standard input lacks the CA of the present certificate
  phoenixctl member request  prints a request, for a key that is made for it and never leaves the host
  phoenixctl member install  puts the certificate on standard input, and that key, in place

The server reads one file, the certificate and then its key, which is replaced at once. It keeps the former one until
it is told to read it again (the module database_certificates).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from phoenix.common import files, openssl
from phoenix.database import authority

PATH = Path("/etc/mongod-tls.pem")
USER = "mongodb"
# The part of its time that is left when it is issued again, by the next run of a play.
RENEW_SHARE = 1 / 3


def _normal(name: str) -> str:
    """A name as it is compared: an address in its shortest form."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name.lower()


def read(pem: str) -> openssl.Seen:
    """Read the first certificate. Raises ValueError."""
    shown = openssl.run("x509", "-noout", "-startdate", "-enddate", "-ext", "subjectAltName", given=pem)
    dates = dict(re.findall(r"^not(Before|After)=(.+)$", shown, re.MULTILINE))
    return openssl.Seen(
        frozenset(_normal(name) for name in re.findall(r"(?:DNS|IP Address):([^\s,]+)", shown)),
        *(float(ssl.cert_time_to_seconds(dates[key])) for key in ("Before", "After")),
    )


def issued_by(pem: str, bundle: str) -> bool:
    """Whether one of these CAs has signed the certificate, whenever that was, if by the intermediate ones beside it."""
    own, *intermediate = authority.certificates(pem)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "bundle").write_text(bundle)
        (Path(name) / "certificate").write_text(own)
        (Path(name) / "intermediate").write_text("".join(intermediate))
        chain = ("-untrusted", f"{name}/intermediate") if intermediate else ()
        try:
            openssl.run(
                "verify", "-no_check_time", "-no-CApath", "-CAfile", f"{name}/bundle", *chain, f"{name}/certificate"
            )
        except ValueError:
            return False
    return True


def matches(pem: str, key: str) -> bool:
    """Whether the key is that of the first certificate."""
    return openssl.run("x509", "-noout", "-pubkey", given=pem) == openssl.run("pkey", "-pubout", given=key)


def reason(pem: str, issuer: str, names: Collection[str], now: float) -> str:
    """Why it has to be issued; "" while it does not. pem: the file's content, "" where there is none."""
    if not pem:
        return "there is none"
    try:
        return next(_reasons(pem, issuer, names, now), "")
    except ValueError as error:
        return f"it can't be read: {error}"


def due(pem: str, issuer: str, names: Collection[str], now: float, again: bool) -> dict[str, str | bool]:
    """reason: why it has to be issued; "" while it does not. other_ca: whether the present one is not of this CA.

    again: whether one that is good is issued again. One that can't be read counts as another CA's.
    """
    why = reason(pem, issuer, names, now) or ("asked for" if again else "")
    return {"reason": why, "other_ca": bool(pem) and not (authority.certificates(pem) and issued_by(pem, issuer))}


def _reasons(pem: str, issuer: str, names: Collection[str], now: float) -> Iterator[str]:
    seen = read(pem)
    if not matches(pem, pem):
        yield "its key is another one's"
    if seen.names != frozenset(map(_normal, names)):
        yield f"it is for {', '.join(sorted(seen.names))}"
    if not issued_by(pem, issuer):
        yield "another CA has issued it"
    if seen.end - now < (seen.end - seen.begin) * RENEW_SHARE:
        yield f"it ends on {time.strftime('%Y-%m-%d', time.gmtime(seen.end))}"


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def request(path: Path) -> str:
    """A request for the key of the next certificate, which is made where there is none."""
    key = _next(path)
    if not key.exists():
        files.replace(key, authority.new_key(), 0o600, durable=True)
    return authority.new_request(key)


def install(path: Path, certificate: str, user: str = USER) -> None:
    """Raises ValueError: the certificate is not of the key that the request was for."""
    key = _next(path)
    if not key.exists() or not matches(certificate, key.read_text()):
        raise ValueError("the certificate is not of the key that a request was made for; run the play again")
    # Handed over before it is in place: the server reads it as this user.
    partial = path.with_name(f".{path.name}.new")
    files.replace(partial, certificate + key.read_text(), 0o400, durable=True)
    if user:
        shutil.chown(partial, user, user)
    partial.replace(path)
    key.unlink()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("due", "refuse", "request", "install"))
    parser.add_argument("--path", type=Path, default=PATH)
    parser.add_argument("--user", default=USER)
    options = parser.parse_args(arguments)
    try:
        pem = options.path.read_text() if options.path.exists() else ""
        if options.verb == "due":
            order = json.load(sys.stdin)
            print(json.dumps(due(pem, order["authority"], order["names"], time.time(), order["again"])))
        elif options.verb == "refuse":
            if pem and not issued_by(pem, json.load(sys.stdin)["bundle"]):
                raise ValueError(
                    "the CA of this certificate is not among those that are to be trusted, so that no client would "
                    "trust the server: have mongodb_tls_ca hold it as well until the certificate is replaced"
                )
        elif options.verb == "request":
            print(request(options.path), end="")
        else:
            install(options.path, sys.stdin.read(), options.user)
    except (OSError, ValueError, KeyError, LookupError) as error:
        print(f"{options.path}: {error}", file=sys.stderr)
        return 1
    return 0
