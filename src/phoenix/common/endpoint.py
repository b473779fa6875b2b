"""An address with a port, as nginx, MongoDB and URLs write it: IPv6 stands in brackets."""

from __future__ import annotations


def bracketed(address: str) -> str:
    """An address, or a name, as it stands before a port, and in a URL."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def of(address: str, port: int | str) -> str:
    return f"{bracketed(str(address))}:{port}"


def parts(endpoint: str) -> tuple[str, int]:
    """Address and port of what `of` made."""
    address, _, port = endpoint.rpartition(":")
    return address.strip("[]"), int(port)
