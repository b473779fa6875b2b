"""Check that nginx can serve a certificate with its private key, before they are put in place."""

from __future__ import annotations

from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SHOWN = 40  # characters of a certificate, which is public


def error(certificate: str, key: str, now: datetime | None = None) -> str:
    """Return why nginx could not serve this chain (the server's own certificate first) with this key, or "".

    Both are PEM. The message holds nothing of the key. `now` is the present unless given.
    """
    try:
        own = x509.load_pem_x509_certificates(certificate.encode())[0]
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
        return "nginx_tls_key is not a PEM private key. Give the text itself, not the name of its file, in a vault."
    if own.public_key() != private.public_key():
        return (
            f"nginx_tls_key does not belong to the first certificate in nginx_tls_certificate, which is of "
            f"{own.subject.rfc4514_string()}. Give its own key, and the server's own certificate before its signers'."
        )
    if own.not_valid_after_utc <= (now or datetime.now(timezone.utc)):
        return f"nginx_tls_certificate expired on {own.not_valid_after_utc:%Y-%m-%d}. Give one that is valid."
    return ""
