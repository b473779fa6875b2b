"""A certificate that nginx could not serve is refused before it replaces one that it serves."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phoenix.fleet import certificate

NOW = datetime(2030, 1, 1, tzinfo=UTC)


Made = tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]


def made(
    name: str,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    signer: Made | None = None,
    usages: list[x509.ObjectIdentifier] | None = None,
) -> Made:
    """A certificate of ten days from NOW on, for its name, a wildcard and an address, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName(name), x509.DNSName("*.apps.example.org"), x509.IPAddress(ip_address("192.0.2.11"))]
    builder = x509.CertificateBuilder(
        signer[0].subject if signer else subject, subject, key.public_key(), x509.random_serial_number()
    )
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=10))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signer[1] if signer else key, hashes.SHA256()), key


def pem(one: Made, encryption: KeySerializationEncryption | None = None) -> tuple[str, str]:
    secret = one[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return one[0].public_bytes(Encoding.PEM).decode(), secret.decode()


SIGNER_MADE = made("signer")
SIGNER, OTHER_KEY = pem(SIGNER_MADE)
OWN, KEY = pem(made("www.example.org", signer=SIGNER_MADE))
STRANGER, _ = pem(made("signer"))
SHORT, SHORT_KEY = pem(made("www.example.org", rsa.generate_private_key(65537, 1024)))
_, LOCKED_KEY = pem(made("locked"), BestAvailableEncryption(b"secret"))


def test_the_files_are_an_operators_and_what_was_issued() -> None:
    ours = [{"names": ["*.example.org", "example.org"], "certificate": OWN, "key": KEY.strip()}]
    read: list[dict[str, Any]] = [
        {"item": "thumbprint", "content": b64encode(b"T").decode()},
        {"item": "www.example.org.pem", "content": b64encode(b"chain and key").decode()},
        {"item": "late.example.org.pem", "failed": True},
    ]
    first, second = certificate.files(ours, read)
    assert first["name"] == "_.example.org"
    assert x509.load_pem_x509_certificate(first["content"].encode()).public_bytes(Encoding.PEM).decode() == OWN
    assert first["content"].endswith(KEY)
    assert second == {"name": "www.example.org", "content": "chain and key"}


def test_what_nginx_can_serve_has_no_fault() -> None:
    assert certificate.error(OWN, KEY, now=NOW) == ""
    assert certificate.error(OWN + SIGNER, KEY, now=NOW) == "", "a chain"


@pytest.mark.parametrize(
    ("chain", "key", "days", "why"),
    [
        ("/etc/ssl/www.pem", KEY, 0, 'begins with "/etc/ssl/www.pem" and is not a PEM certificate'),
        (OWN[:200], KEY, 0, "is not a PEM certificate"),
        (OWN, "/etc/ssl/www.key", 0, "nginx_tls_key is not a PEM private key"),
        (OWN, LOCKED_KEY, 0, "has a passphrase"),
        (OWN, OTHER_KEY, 0, "does not belong to the first certificate"),
        (SIGNER + OWN, KEY, 0, "the server's own certificate before its signers'"),
        (SHORT, SHORT_KEY, 0, "has 1024 bits"),
        (OWN + STRANGER, KEY, 0, "CN=www.example.org is not signed by the certificate after it, CN=signer"),
        (OWN, KEY, 10, "ended on 2030-01-11"),
    ],
)
def test_what_it_can_not_serve_is_told(chain: str, key: str, days: int, why: str) -> None:
    told = certificate.error(chain, key, now=NOW + timedelta(days=days))
    assert why in told
    assert "PRIVATE" not in told and key not in told


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("www.example.org", True),
        ("WWW.Example.ORG", True),
        ("a.apps.example.org", True),
        ("*.apps.example.org", True),
        ("192.0.2.11", True),
        ("example.org", False),
        ("apps.example.org", False),
        ("a.b.apps.example.org", False),
        ("192.0.2.12", False),
    ],
)
def test_a_server_name_that_it_is_not_for_is_reported(name: str, covered: bool) -> None:
    told = certificate.error(OWN, KEY, [name, "www.example.org"], NOW)
    assert told == "" if covered else told.startswith(f"nginx_tls_certificate is not for {name} in nginx_server_names")


def test_each_certificate_of_other_names_is_checked() -> None:
    good, key = pem(made("other.example.org"))  # until 2030: not ended by the present clock
    entries = [
        {"names": ["other.example.org"], "certificate": good, "key": key},
        {"names": ["more.example.org"], "certificate": good, "key": key},
        {"names": ["other.example.org"], "certificate": good, "key": OTHER_KEY},
    ]
    first, second = certificate.errors(entries)
    assert first.startswith(
        "nginx_certificates[1].certificate is not for more.example.org in nginx_certificates[1].names"
    )
    assert first.count("nginx_certificates[1].names") == 2
    assert second.startswith(
        "nginx_certificates[2].key does not belong to the first certificate in nginx_certificates[2]"
    )


BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
MEMBER, MEMBER_KEY = pem(made("db1", signer=SIGNER_MADE, usages=BOTH))
SERVER, SERVER_KEY = pem(made("db1", signer=SIGNER_MADE, usages=BOTH[:1]))


@pytest.mark.parametrize(
    ("own", "key", "names", "trusted", "why"),
    [
        (MEMBER, MEMBER_KEY, ["192.0.2.11"], [SIGNER, ""], ""),
        (OWN, KEY, ["192.0.2.11"], [SIGNER + STRANGER, SIGNER], ""),  # without a purpose it is for any
        (
            MEMBER,
            KEY,
            ["192.0.2.11"],
            [SIGNER],
            "mongodb_tls_key does not belong to the first certificate in mongodb_tls_",
        ),
        (
            MEMBER,
            MEMBER_KEY,
            ["192.0.2.12"],
            [SIGNER],
            "is not for 192.0.2.12 in the names that the member is reached by",
        ),
        (MEMBER, MEMBER_KEY, ["192.0.2.11"], [STRANGER], "is of a CA that the fleet's hosts do not trust"),
        # Not before hosts trust it, nor once they will no longer.
        (MEMBER, MEMBER_KEY, ["192.0.2.11"], [SIGNER, STRANGER], "is of a CA that the fleet's hosts do not trust"),
        (SERVER, SERVER_KEY, ["192.0.2.11"], [SIGNER], "is not both for servers and for clients"),
        (MEMBER, MEMBER_KEY, ["192.0.2.11"], ["/etc/ca.pem"], "mongodb_tls_ca is not PEM"),
        ("/etc/db1.pem", MEMBER_KEY, [], [SIGNER], "mongodb_tls_certificate begins with"),
    ],
)
def test_an_operators_certificate_of_a_member(
    own: str, key: str, names: list[str], trusted: list[str], why: str
) -> None:
    found = certificate.member_error(own, key, names, trusted, NOW)
    assert why in found and bool(found) == bool(why) and "nginx" not in found
