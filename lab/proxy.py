"""The operator's HTTP proxy, for the clients on this machine and for the lab's hosts.

It comes from http_proxy, https_proxy and no_proxy (or their upper-case spellings), and from apt's configuration.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

_APT_OPTION = re.compile(r'(acquire::https?::proxy(?:::\S+)?) "(.+)";', re.IGNORECASE)
# Values that mean "no proxy" to apt.
_NO_PROXY = ("DIRECT", "false")
_CONNECT_S = 3.0


def apt_options() -> dict[str, str]:
    """Return apt's proxy options on this machine, by lower-case name.

    They have apt's own precedence: its configuration over http_proxy, and no_proxy over both.
    """
    environment = getproxies_environment()
    options = {
        f"acquire::{scheme}::proxy": environment[scheme] for scheme in ("http", "https") if scheme in environment
    }
    dump = _lines("apt-config", "dump")
    options |= {match[1].lower(): match[2] for match in map(_APT_OPTION.fullmatch, dump) if match}
    for mirror in sorted(set(_lines("apt-get", "indextargets", "--format", "$(REPO_URI)"))):
        parts = urlsplit(mirror)
        if proxy_bypass(parts.hostname or ""):
            options[f"acquire::{parts.scheme}::proxy::{parts.hostname}"] = "DIRECT"
    return options


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def of_mirror(mirror: str) -> str:
    """Return the proxy through which apt reaches a mirror, or "" for a direct connection."""
    options = apt_options()
    parts = urlsplit(mirror)
    for name in (f"{parts.scheme}::proxy::{parts.hostname}", f"{parts.scheme}::proxy", "http::proxy"):
        if value := options.get(f"acquire::{name}"):
            return "" if value in _NO_PROXY else value
    return ""


def reachable(proxy: str, gateway: str) -> str:
    """Return the proxy's URL for a host behind `gateway`, which is this machine: it replaces a loopback address.

    Raises:
        RuntimeError: the proxy does not listen on the gateway's address.
    """
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if not _is_loopback(parts.hostname or ""):
        return urlunsplit(parts)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((gateway, port), _CONNECT_S).close()
    except OSError:
        raise RuntimeError(
            f"the lab's hosts can't reach the HTTP proxy {parts.hostname}:{port}: "
            f"let it listen on {gateway}:{port} as well, or unset it"
        ) from None
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{gateway}:{port}"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def apt_conf(gateway: str) -> str:
    """Return the configuration of apt for a host behind `gateway`."""
    lines = [
        f'{name} "{value if value in _NO_PROXY else reachable(value, gateway)}";\n'
        for name, value in apt_options().items()
    ]
    return "// Made by the lab.\n" + "".join(lines)


def npmrc(gateway: str) -> str:
    """Return the proxy settings of npm for a host behind `gateway`."""
    environment = getproxies_environment()
    lines = [
        f"{setting}={reachable(environment[scheme], gateway)}\n"
        for scheme, setting in (("http", "proxy"), ("https", "https-proxy"))
        if scheme in environment
    ]
    if environment.get("no"):
        lines.append(f"noproxy={environment['no']}\n")
    return "".join(lines)


def pip_conf(index: str, gateway: str) -> str:
    """Return the proxy setting of pip for a host behind `gateway`: pip has no exceptions, so the index decides."""
    environment = getproxies_environment()
    parts = urlsplit(index)
    proxy = environment.get(parts.scheme)
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return f"proxy = {reachable(proxy, gateway)}\n"
