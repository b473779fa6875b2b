"""A certificate that nginx could not serve is refused before it replaces one that it serves."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from phoenix.fleet import certificate

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def made(name: str, encryption: KeySerializationEncryption | None = None) -> tuple[str, str]:
    """A certificate of ten days from NOW on, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    signed = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=10)).sign(key, hashes.SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return signed.public_bytes(Encoding.PEM).decode(), secret.decode()


OWN, KEY = made("www.example.org")
SIGNER, OTHER_KEY = made("signer")
_, LOCKED_KEY = made("locked", BestAvailableEncryption(b"secret"))


def test_a_certificate_that_nginx_can_serve_has_no_error() -> None:
    assert certificate.error(OWN, KEY, NOW) == ""
    assert certificate.error(OWN + SIGNER, KEY, NOW) == "", "a chain"


@pytest.mark.parametrize(
    ("chain", "key", "days", "why"),
    [
        ("/etc/ssl/www.pem", KEY, 0, 'begins with "/etc/ssl/www.pem" and is not a PEM certificate'),
        (OWN[:200], KEY, 0, "is not a PEM certificate"),
        (OWN, "/etc/ssl/www.key", 0, "nginx_tls_key is not a PEM private key"),
        (OWN, LOCKED_KEY, 0, "has a passphrase"),
        (OWN, OTHER_KEY, 0, "does not belong to the first certificate"),
        (SIGNER + OWN, KEY, 0, "the server's own certificate before its signers'"),
        (OWN, KEY, 10, "expired on 2030-01-11"),
    ],
)
def test_a_certificate_that_nginx_cannot_serve_is_explained(chain: str, key: str, days: int, why: str) -> None:
    message = certificate.error(chain, key, NOW + timedelta(days=days))
    assert why in message
    assert "PRIVATE" not in message and key not in message
