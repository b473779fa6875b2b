"""This machine's settings for the lab's hosts, as files: of apt, npm and pip, and the certificates that it trusts."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from lab import proxy
from lab.fleet import Host

# Path on a host, without its first slash -> contents and mode.
Files = dict[str, tuple[bytes, int]]


def apt_conf(host: Host, settings: str) -> str:
    """The configuration of apt for a host: this machine's, and IPv4 alone, as IPv6 leads to no mirror from the lab."""
    return settings + ('Acquire::ForceIPv4 "true";\n' if any(":" in one for one in host.addresses) else "")


def registry_settings(gateway: str) -> Files:
    """Return this machine's registries and proxy as settings for npm and pip on the host that builds."""
    registry = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True)
    npmrc = f"registry={registry.stdout.strip()}\ncafile=/etc/ssl/certs/ca-certificates.crt\n" + proxy.npmrc(gateway)
    return {"etc/npmrc": (npmrc.encode(), 0o644), "etc/pip.conf": (_pip_settings(gateway).encode(), 0o644)}


def _pip_settings(gateway: str) -> str:
    """Return this machine's settings for pip, without registries on its own disk, which hosts cannot reach."""
    command = [sys.executable, "-m", "pip", "config", "get"]
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    index = "https:"  # pip's own default, somewhere
    for name in ("index-url", "trusted-host"):
        for section in (":env:", "install", "global"):
            done = subprocess.run([*command, f"{section}.{name}"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip() and not done.stdout.startswith("file:"):
                lines.append(f"{name} = {done.stdout.strip()}")
                if name == "index-url":
                    index = done.stdout.strip()
                break
    return "\n".join(lines) + "\n" + proxy.pip_conf(index, gateway)


def certificates() -> Files:
    """Return the certificates that this machine trusts beyond Debian's."""
    found = sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))
    return {str(certificate).lstrip("/"): (certificate.read_bytes(), 0o644) for certificate in found}


def tar(files: Files, owner: int = 0) -> bytes:
    """Pack files that belong to this user; a path that ends in a slash is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, owner, owner
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
