"""Whether a certificate and its private key can be served together: nginx would only say so once they are in place."""

from __future__ import annotations

from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SHOWN = 40  # characters of a certificate, which is public


def fault(certificate: str, key: str, now: datetime | None = None) -> str:
    """Why nginx could not serve this chain, the server's own certificate first, with this key; empty when it can.

    Both are PEM. Nothing of the key is in the answer. `now` is the present unless given.
    """
    try:
        own = x509.load_pem_x509_certificates(certificate.encode())[0]
    except ValueError:
        begin = " ".join(certificate[:SHOWN].split())
        return (
            f'nginx_tls_certificate begins with "{begin}" and is no certificate in PEM. '
            "Give the text itself, not its file's name: lookup('ansible.builtin.file', '/path/to/chain.pem')."
        )
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except TypeError:
        return "nginx_tls_key has a passphrase, which nginx can't ask for. Give the key without one, in a vault."
    except ValueError:
        return "nginx_tls_key is no private key in PEM. Give the text itself, not its file's name, in a vault."
    if own.public_key() != private.public_key():
        return (
            f"nginx_tls_key does not belong to the first certificate in nginx_tls_certificate, which is of "
            f"{own.subject.rfc4514_string()}. Give its own key, and the server's own certificate before its signers'."
        )
    if own.not_valid_after_utc <= (now or datetime.now(timezone.utc)):
        return f"nginx_tls_certificate ended on {own.not_valid_after_utc:%Y-%m-%d}. Give one that is valid."
    return ""
