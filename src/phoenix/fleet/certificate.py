"""Whether a certificate and its private key can be served together, and for these names.

nginx would only say so once they are in place, or never.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

SHOWN = 40  # characters of a certificate, which is public
RSA_BITS = 2048  # fewer are too few for Debian's OpenSSL


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether clients accept it for a host name or address: one of its alternative names, as RFC 6125 has it."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        known = [one.lower() for one in names.get_values_for_type(x509.DNSName)]
        return name.lower() in known or "*." + name.lower().partition(".")[2] in known


def is_signed_by(one: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def error(certificate: str, key: str, names: Iterable[str] = (), now: datetime | None = None) -> str:
    """Why nginx could not serve this chain, the server's own certificate first, with this key; empty when it can.

    Both are PEM. Nothing of the key is in the answer. `names` are the host names that clients ask for. `now` is the
    present unless given.
    """
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        begin = " ".join(certificate[:SHOWN].split())
        return (
            f'nginx_tls_certificate begins with "{begin}" and is not a PEM certificate. '
            "Give the text itself, not the name of its file: lookup('ansible.builtin.file', '/path/to/chain.pem')."
        )
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except TypeError:
        return "nginx_tls_key has a passphrase, which nginx cannot enter. Give the key without one, in a vault."
    except ValueError:
        return "nginx_tls_key is not a PEM private key. Give the text itself, not its file's name, in a vault."
    return next(_faults(chain, private, names, now or datetime.now(timezone.utc)), "")


def errors(certificates: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why nginx could not serve these (`nginx_certificates`), one message each at most."""
    found = []
    for number, one in enumerate(certificates):
        text = error(one["certificate"], one["key"], one["names"])
        for name, own in (("tls_certificate", "certificate"), ("tls_key", "key"), ("server_names", "names")):
            text = text.replace(f"nginx_{name}", f"nginx_certificates[{number}].{own}")
        found += [text] if text else []
    return found


def member_error(
    certificate: str, key: str, names: Iterable[str], trusted: Sequence[str], now: datetime | None = None
) -> str:
    """Why a database's member can't serve with this certificate of the operator's; "" when it can.

    names: those by which it is reached; trusted: CAs, as PEM, of which each text has to hold the certificate's.
    """
    text = error(certificate, key, names, now)
    if not text:
        chain = x509.load_pem_x509_certificates(certificate.encode())
        text = next(_member_faults(chain, trusted), "")
    return (
        text.replace("nginx_tls_certificate", "mongodb_tls_certificate")
        .replace("nginx_tls_key", "mongodb_tls_key")
        .replace("nginx_server_names", "the names that the member is reached by")
        .replace("nginx", "a member")
    )


def _member_faults(chain: list[x509.Certificate], trusted: Sequence[str]) -> Iterator[str]:
    try:
        usages = list(chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= {*usages}:
        yield "nginx_tls_certificate is not both for servers and for clients: members connect to each other with it."
    for text in filter(None, trusted):
        try:
            authorities = x509.load_pem_x509_certificates(text.encode())
        except ValueError:
            yield "mongodb_tls_ca is not PEM. Give the text of the CAs itself, not the name of its file."
            return
        if not any(chain[-1] == one or is_signed_by(chain[-1], one) for one in authorities):
            yield (
                "nginx_tls_certificate is of a CA that the fleet's hosts do not trust. Put the CA into mongodb_tls_ca, "
                "beside the present one, and run site.yml; then give the certificate."
            )


def files(certificates: Iterable[Mapping[str, Any]], issued: Iterable[Mapping[str, Any]] = ()) -> list[dict[str, str]]:
    """The files that nginx reads, name and content: an operator's (`nginx_certificates`), and those issued by ACME.

    issued: results of Ansible's module `slurp`, some of which may have failed.
    """
    found = [
        {"name": one["names"][0].replace("*", "_"), "content": f"{one['certificate'].strip()}\n{one['key'].strip()}\n"}
        for one in certificates
    ]
    for one in issued:
        name, kind = one["item"][: -len(".pem")], one["item"][-len(".pem") :]
        if kind == ".pem" and one.get("content"):
            found.append({"name": name, "content": b64decode(one["content"]).decode()})
    return found


def _faults(
    chain: list[x509.Certificate], private: PrivateKeyTypes, names: Iterable[str], now: datetime
) -> Iterator[str]:
    own = chain[0]
    if own.public_key() != private.public_key():
        yield (
            f"nginx_tls_key does not belong to the first certificate in nginx_tls_certificate, which is of "
            f"{own.subject.rfc4514_string()}. Give its own key, and the server's own certificate before its signers'."
        )
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size < RSA_BITS:
        yield f"nginx_tls_key has {private.key_size} bits, and nginx refuses less than {RSA_BITS}. Make a longer one."
    for one, signer in zip(chain, chain[1:]):
        if not is_signed_by(one, signer):
            yield (
                f"nginx_tls_certificate: {one.subject.rfc4514_string()} is not signed by the certificate after it, "
                f"{signer.subject.rfc4514_string()}. Give the chain in order, each signed by the next."
            )
    if missing := [name for name in names if not covers(own, name)]:
        yield (
            f"nginx_tls_certificate is not for {', '.join(missing)} in nginx_server_names. "
            "Give a certificate with these names, or take them out of nginx_server_names."
        )
    if own.not_valid_after_utc <= now:
        yield f"nginx_tls_certificate ended on {own.not_valid_after_utc:%Y-%m-%d}. Give one that is valid."
