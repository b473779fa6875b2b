"""Certificates by ACME on control: which ones there are to be, and a client that gets them (decision 58).

  phoenixctl certificates account    creates the account's key, and the thumbprint with which balancers answer HTTP-01
  phoenixctl certificates due        prints what is missing or ends soon, and why, as JSON
  phoenixctl certificates issue      has the CA issue what is due
  phoenixctl certificates validate   checks a configuration (--config)

A certificate is one file, `NAME.pem`: the chain, and then its key. It is replaced at once, and only by one that is
sound, so whatever the CA does, what serves goes on serving. Each is tried, also after another one failed.
The client, lego, keeps nothing: it gets the account's key in a folder of its own, which is removed afterwards.
Exit status 1: one could not be issued; standard error names it with the client's last lines.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from phoenix.common import files, openssl

CONFIG = Path("/etc/phoenix/acme.json")
FOLDER = Path("/var/lib/phoenix/acme")
DAY = 86400.0
# The rest of its time at which a certificate is renewed: Let's Encrypt's advice for one of 90 days. One of less than 60
# days is renewed at half its time, before an alarm rings.
RENEW_SECONDS = 30 * DAY
CLIENT_SECONDS = 600.0
LINES = 12  # of the client's output, shown where it failed

CHALLENGES = ("http-01", "dns-01")
MOST_NAMES = 100  # of one certificate, at Let's Encrypt
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(\*\.)?({LABEL}\.)+(?![0-9]+$){LABEL}")


class Failed(Exception):
    """A certificate was not issued; the text states why."""


@dataclass(frozen=True)
class Certificate:
    """names: all that it is for; its file is named after the first."""

    names: Sequence[str]
    challenge: str = "http-01"

    @property
    def file(self) -> str:
        return f"{self.names[0].replace('*', '_')}.pem"


@dataclass(frozen=True)
class Config:
    """directory: the CA's URL; hook: the program that sets DNS records for dns-01, or empty."""

    directory: str
    email: str
    certificates: Sequence[Certificate]
    hook: str = ""


def _name_errors(names: Sequence[str], challenge: str, label: str) -> Iterator[str]:
    if not names:
        yield f"{label}.names = []: give the host names that it is for"
    if len(names) > MOST_NAMES:
        yield f"{label}.names: {len(names)} are more than the {MOST_NAMES} that one certificate may have; divide them"
    for name in names:
        if not HOST.fullmatch(name):
            yield f"{label}.names: {name!r} is no host name; give one in lower case, such as www.example.org"
        elif name.startswith("*.") and challenge != "dns-01":
            yield f"{label}.names: {name} needs challenge: dns-01, as no CA proves a wildcard over HTTP"


def errors(values: Mapping[str, Any], served: Collection[str] = (), *, tls: bool = True) -> list[str]:
    """What is wrong with the settings, as the role has them without its prefix; served: names of other certificates."""
    certificates = values["certificates"]
    if not isinstance(certificates, list):
        return [f"acme_certificates: {certificates!r} isn't a list; give one entry for each certificate"]
    found: list[str] = []
    owners = dict.fromkeys(served, "nginx_certificates")
    for number, one in enumerate(certificates):
        label = f"acme_certificates[{number}]"
        if not isinstance(one, dict) or not isinstance(one.get("names"), list):
            found.append(f"{label}: {one!r} has no list of names; give names: [www.example.org]")
            continue
        names, challenge = [str(name) for name in one["names"]], one.get("challenge", "http-01")
        found += _name_errors(names, challenge, label)
        if challenge not in CHALLENGES:
            found.append(f"{label}.challenge = {challenge!r}: give {' or '.join(CHALLENGES)}")
        if challenge == "dns-01" and not values["dns_hook"]:
            found.append(f"{label}.challenge = dns-01 needs acme_dns_hook, the program that sets the DNS record")
        for name in names:
            if name in owners:
                found.append(f"{label}.names: {name} is in {owners[name]} as well; leave it in one of them")
            owners.setdefault(name, label)
    if not certificates:
        return found
    if not tls:
        found.append("acme_certificates: they are not served while nginx_tls_enabled = false; set it to true")
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(values["email"])):
        found.append(f"acme_email = {values['email']!r}: give the address that the CA may write to")
    parts = urlsplit(str(values["directory"]))
    if parts.scheme != "https" or not parts.hostname:
        found.append(f"acme_directory = {values['directory']!r}: give the https:// URL of the CA's ACME directory")
    return found


def parse(text: str) -> Config:
    """Raises ValueError."""
    try:
        values = json.loads(text)
        config = Config(**{**values, "certificates": [Certificate(**one) for one in values["certificates"]]})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a configuration of certificates: {error}") from error
    found = errors({**values, "dns_hook": config.hook})
    if found:
        raise ValueError("; ".join(found))
    return config


def read(path: Path) -> openssl.Seen:
    """Read the first certificate of a file. Raises ValueError: it has none, or one that is not its key's."""
    shown = openssl.run("x509", "-in", path, "-noout", "-startdate", "-enddate", "-ext", "subjectAltName")
    dates = dict(re.findall(r"^not(Before|After)=(.+)$", shown, re.MULTILINE))
    if openssl.run("x509", "-in", path, "-noout", "-pubkey") != openssl.run("pkey", "-in", path, "-pubout"):
        raise ValueError(f"{path}: its key is not that of its first certificate")
    return openssl.Seen(
        frozenset(re.findall(r"DNS:([^\s,]+)", shown)),
        *(float(ssl.cert_time_to_seconds(dates[key])) for key in ("Before", "After")),
    )


def reason(seen: openssl.Seen | None, names: Collection[str], now: float) -> str:
    """Why a certificate has to be issued; empty while it does not."""
    if seen is None:
        return "there is none"
    if seen.names != frozenset(names):
        return f"it is for {', '.join(sorted(seen.names))}"
    if seen.end - now < min(RENEW_SECONDS, (seen.end - seen.begin) / 2):
        return f"it ends on {time.strftime('%Y-%m-%d', time.gmtime(seen.end))}"
    return ""


def due(config: Config, folder: Path, now: float) -> dict[str, str]:
    """The files of certificates that have to be issued, each with the reason."""
    found = {}
    for one in config.certificates:
        try:
            seen = read(folder / one.file) if (folder / one.file).exists() else None
        except ValueError:
            seen = None
        if why := reason(seen, one.names, now):
            found[one.file] = why
    return found


def account(folder: Path) -> str:
    """Create the account's key where there is none; returns its thumbprint (RFC 7638), which is kept beside it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = folder / "account.key"
    if not key.exists():
        made = openssl.run("ecparam", "-name", "prime256v1", "-genkey", "-noout")
        files.replace(key, made, 0o600, durable=True)
    public = ssl.PEM_cert_to_DER_cert(openssl.run("pkey", "-in", key, "-pubout").replace("PUBLIC KEY", "CERTIFICATE"))
    # The uncompressed point is at the end of the structure.
    x, y = (_base64url(public[begin:end]) for begin, end in ((-64, -32), (-32, len(public))))
    thumbprint = _base64url(hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())
    files.replace(folder / "thumbprint", f"{thumbprint}\n")
    return thumbprint


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def command(config: Config, one: Certificate, folder: Path) -> list[str]:
    """The client's command line; the same for each release of Debian's (3.2 and 4.9)."""
    line = ["lego", "--accept-tos", "--email", config.email, "--server", config.directory, "--path", str(folder)]
    line += ["--key-type", "ec256", *(word for name in one.names for word in ("--domains", name))]
    if one.challenge == "dns-01":
        # The hook returns when the record can be seen; only it knows which servers these are.
        line += ["--dns", "exec", "--dns.disable-cp"]
    else:
        # The balancers answer by themselves: what it writes there is read by nobody.
        line += ["--http", "--http.webroot", str(folder)]
    # Never `renew`, which would need what an earlier run has left.
    return [*line, "run"]


def issue(config: Config, one: Certificate, folder: Path) -> None:
    """Have one certificate issued, and put it in the place of the former one. Raises Failed."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        host = urlsplit(config.directory).netloc.replace(":", "_")
        keys = work / "accounts" / host / config.email / "keys"
        keys.mkdir(parents=True)
        (keys / f"{config.email}.key").write_bytes((folder / "account.key").read_bytes())
        try:
            done = subprocess.run(
                command(config, one, work),
                env={**os.environ, "HOME": str(work), **({"EXEC_PATH": config.hook} if config.hook else {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=CLIENT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"lego was stopped after {CLIENT_SECONDS:g} s") from error
        except OSError as error:
            raise Failed(f"lego could not be run: {error}") from error
        if done.returncode:
            raise Failed("\n".join([f"lego ended with status {done.returncode}", *done.stdout.splitlines()[-LINES:]]))
        base = work / "certificates" / one.file[: -len(".pem")]
        whole = work / one.file
        try:
            whole.write_bytes(b"".join(Path(f"{base}.{kind}").read_bytes() for kind in ("crt", "key")))
            seen = read(whole)
        except FileNotFoundError as error:
            raise Failed(f"lego left no certificate: {error}") from error
        except ValueError as error:
            raise Failed(f"the CA issued one that is of no use: {error}") from error
        if seen.names != frozenset(one.names):
            raise Failed(f"the CA issued one for {', '.join(sorted(seen.names))}")
        files.replace(folder / one.file, whole.read_bytes(), 0o600, durable=True)


def issue_due(config: Config, folder: Path, now: float) -> int:
    """Issue what is due, and remove what nobody wants any more; the exit status."""
    wanted = {one.file for one in config.certificates}
    for path in folder.glob("*.pem"):
        if path.name not in wanted:
            path.unlink()
            print(f"{path.name}: removed, as no certificate of this name is configured")
    waiting = due(config, folder, now)
    failed = False
    for one in config.certificates:
        if one.file not in waiting:
            continue
        try:
            issue(config, one, folder)
        except (Failed, OSError) as error:  # such as a full disk: the others are tried all the same
            print(f"{one.file}: {error}", file=sys.stderr)
            failed = True
        else:
            print(f"{one.file}: issued for {', '.join(one.names)}; {waiting[one.file]}")
    return int(failed)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("account", "due", "issue", "validate"))
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    if options.verb == "account":
        print(account(options.folder))
        return 0
    try:
        config = parse(options.config.read_text(encoding="utf-8"))
    except ValueError as error:
        print(f"{options.config}: {error}", file=sys.stderr)
        return 1
    if options.verb == "issue":
        return issue_due(config, options.folder, time.time())
    if options.verb == "due":
        print(json.dumps(due(config, options.folder, time.time())))
    return 0
