"""The small CA on control that issues the certificates of the database's members (decision 65).

  phoenixctl authority show              prints {authority, next, bundle, phase}
  phoenixctl authority create            makes the CA where there is none, for {trusted, members} on standard input; one
                                         that no member trusts is trusted beside what they do
  phoenixctl authority sign              prints a certificate for {request, names} on standard input
  phoenixctl authority begin             makes the next CA, which is trusted beside the present one
  phoenixctl authority switch            has the next CA issue; the present one is still trusted
  phoenixctl authority end               trusts the former CA no longer

A CA is one file, its certificate and then its key, so that the two are never of different ones. Of a former CA only
the certificate stays. Each step may be repeated; so a replacement that was cut is completed by taking all of them.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import secrets
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phoenix.common import files, openssl

FOLDER = Path("/var/lib/phoenix/database-ca")
DAY = 86400
AUTHORITY_DAYS, MEMBER_DAYS = 3650, 825
# Hosts' clocks differ.
BACKDATED = 3600
CONFIGURATION = """\
[ca]
default_ca = phoenix
[phoenix]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = named
email_in_dn = no
unique_subject = no
[named]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[member]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = @names
[names]
"""
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def alternative(name: str) -> str:
    """The kind of a name in a certificate, and the name: an IPv6 address without brackets."""
    try:
        return f"IP:{ipaddress.ip_address(name.strip('[]'))}"
    except ValueError:
        return f"DNS:{name}"


def certificates(pem: str) -> list[str]:
    """The certificates of a file, and nothing else of it."""
    return [f"{one}\n" for one in re.findall(f"{BEGIN}.*?{END}", pem, re.DOTALL)]


def new_key() -> str:
    return openssl.run("ecparam", "-name", "prime256v1", "-genkey", "-noout")


def new_request(key: Path) -> str:
    """A request for a certificate of this key; the CA gives it its names."""
    with tempfile.TemporaryDirectory() as folder:
        # OpenSSL 1.1 wants the section, though -subj has the name.
        (Path(folder) / "configuration").write_text("[req]\ndistinguished_name = dn\n[dn]\n")
        return openssl.run("req", "-new", "-config", f"{folder}/configuration", "-subj", "/CN=new", "-key", key)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds))


class Authority:
    """The CAs of a folder. now: seconds since 1970."""

    def __init__(self, folder: Path, now: float) -> None:
        self.folder, self.now = folder, now
        self.present, self.next, self.former = (folder / f"{name}.pem" for name in ("present", "next", "former"))

    @property
    def phase(self) -> str:
        """none, whole, or of a replacement that has begun: next (both are trusted), former (the new one issues)."""
        if not self.present.exists():
            return "none"
        return "next" if self.next.exists() else "former" if self.former.exists() else "whole"

    def show(self) -> dict[str, str]:
        """authority: the certificate of the one that issues; next: of the next one; bundle: of all that are trusted.

        The bundle's order says nothing: the same CAs are the same text, whichever of them issues.
        """
        found = {one for path in (self.present, self.next, self.former) for one in self._certificates(path)}
        issues, following = ("".join(self._certificates(path)) for path in (self.present, self.next))
        return {"authority": issues, "next": following, "bundle": "".join(sorted(found)), "phase": self.phase}

    @staticmethod
    def _certificates(path: Path) -> list[str]:
        return certificates(path.read_text()) if path.exists() else []

    def create(self, trusted: str = "", members: Mapping[str, str | None] = {}) -> bool:
        """Make the CA where there is none, and trust the CAs of a fleet whose own is lost as former ones.

        trusted: the CAs that hosts of the run trust; members: those of each database host, None where it was not asked.
        Raises ValueError where the hosts that were not asked might trust a CA that would be forgotten.
        """
        silent = [host for host, pem in members.items() if pem is None]
        of_members = "".join(pem for pem in members.values() if pem)
        if self.present.exists():
            return self._adopt(certificates(of_members) or certificates(trusted), silent)
        if silent and len(silent) == len(members):
            raise ValueError(
                f"there is no CA, and no database host answers ({', '.join(silent)}), which would know the CAs that "
                "the fleet trusts already: run site.yml once one of them answers"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Hosts of a run that was cut may trust different ones.
        if former := certificates(f"{of_members}\n{trusted}"):
            self._keep_former(*former)
        self._make(self.present)
        return True

    def _adopt(self, trusted: Sequence[str], silent: Sequence[str]) -> bool:
        """Trust a fleet's CAs beside this one where the fleet does not trust this one: it came back from an older copy.

        Not where a member does: what else is trusted then is of a replacement that is over, and is to be forgotten.
        silent: the members that were not asked. Raises ValueError where these decide.
        """
        own = self._certificates(self.present)
        known = {one for path in (self.present, self.next, self.former) for one in self._certificates(path)}
        if {*trusted} & {*own} or {*trusted} <= known:
            return False
        if silent:
            raise ValueError(
                "the hosts that answered trust other CAs than this one: either it is from an older copy, or they are. "
                f"The database hosts that do not answer decide ({', '.join(silent)}): run site.yml once they do, or "
                "take those that are lost out of the inventory"
            )
        self._keep_former(*trusted)
        return True

    def _keep_former(self, *others: str) -> None:
        """Trust these as well, as former ones."""
        kept = dict.fromkeys([*self._certificates(self.former), *others])
        files.replace(self.former, "".join(kept), 0o600, durable=True)

    def begin(self) -> bool:
        """Make the next one; not in the middle of a replacement, which is to be completed."""
        if self.phase != "whole":
            return False
        self._make(self.next)
        return True

    def switch(self) -> bool:
        if self.phase != "next":
            return False
        # In this order: one that is cut in between is repeated, and whatever issues is trusted.
        self._keep_former(*self._certificates(self.present))
        self.next.replace(self.present)
        return True

    def end(self) -> bool:
        if self.phase != "former":
            return False
        self.former.unlink()
        return True

    def _make(self, path: Path) -> None:
        # Another name for each, by which a certificate's issuer is found among several.
        subject = f"/CN=Phoenix database CA {time.strftime('%Y-%m-%d', time.gmtime(self.now))} {secrets.token_hex(4)}"
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            key = Path(name) / "key"
            files.replace(key, new_key(), 0o600)
            request = new_request(key)
            certificate = self._issue(request, subject, AUTHORITY_DAYS, "authority", "-selfsign", "-keyfile", key)
            files.replace(path, certificate + key.read_text(), 0o600, durable=True)

    def sign(self, request: str, names: Sequence[str], days: float = MEMBER_DAYS) -> str:
        """A certificate for these names, whatever the request itself asks for. Raises ValueError."""
        if not names:
            raise ValueError("a certificate needs a name")
        shown = openssl.run("x509", "-noout", "-enddate", "-in", self.present)
        rest = (ssl.cert_time_to_seconds(shown.strip().partition("=")[2]) - self.now) / DAY
        signer = ("-cert", self.present, "-keyfile", self.present)
        return self._issue(request, f"/CN={names[0]}", min(days, rest), "member", *signer, names=names)

    def _issue(
        self, request: str, subject: str, days: float, kind: str, *signer: str | Path, names: Sequence[str] = ()
    ) -> str:
        """kind: the extensions that it gets."""
        pairs = [alternative(name).partition(":") for name in names]
        listed = "".join(f"{kind}.{number} = {name}\n" for number, (kind, _, name) in enumerate(pairs))
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            (work / "configuration").write_text(CONFIGURATION + listed)
            (work / "index").touch()
            (work / "request").write_text(request)
            openssl.run(
                "ca", "-batch", "-notext", "-config", "configuration", "-in", "request", "-out", "certificate",
                *signer, "-extensions", kind, "-subj", subject, "-startdate", _stamp(self.now - BACKDATED),
                "-enddate", _stamp(self.now + days * DAY), folder=work,
            )  # fmt: skip
            return certificates((work / "certificate").read_text())[0]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("show", "create", "sign", "begin", "switch", "end"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    authority = Authority(options.folder, time.time())
    answer: dict[str, Any] = {}
    try:
        if options.verb == "sign":
            order = json.load(sys.stdin)
            print(authority.sign(order["request"], order["names"]), end="")
            return 0
        steps = {"begin": authority.begin, "switch": authority.switch, "end": authority.end}
        if options.verb == "create":
            order = json.load(sys.stdin)
            answer["changed"] = authority.create(order["trusted"], order["members"])
        elif options.verb in steps:
            answer["changed"] = steps[options.verb]()
    except (OSError, ValueError, KeyError) as error:
        print(f"{options.folder}: {error}", file=sys.stderr)
        return 1
    print(json.dumps({**answer, **authority.show()}))
    return 0
