"""phoenixctl host updates [--all]: the packages to update on this host, and why it has to be rebooted, as JSON.

Security updates only; --all for every update of its releases. It changes nothing, and reads the package lists as they
are. `reboot` is "" where none is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

# Inst libssl3 [3.0.15-1] (3.0.17-1 Debian-Security:12/stable-security [amd64])
INSTALLED = re.compile(r"^Inst (\S+) \[[^]]*\] \(\S+ (.*?)(?: \[[^]]*\])?\)")
SECURITY = re.compile(r"\bDebian-Security:")
LIBRARY = re.compile(r" (/(?:usr/)?lib\S*\.so[.0-9]*) \(deleted\)$")
SIMULATE = ["apt-get", "--simulate", "--option", "Debug::NoLocking=true", "--with-new-pkgs", "upgrade"]


def packages(simulated: str, *, every: bool = False) -> list[str]:
    """The installed packages that `apt-get --simulate upgrade` would replace; without `every`, by a security update."""
    found = (INSTALLED.match(line) for line in simulated.splitlines())
    return [line[1] for line in found if line and (every or SECURITY.search(line[2]))]


def reboot_reason(required: str | None, running: str, installed: str, stale: Iterable[str]) -> str:
    """Why the host has to be rebooted, or "".

    required: the packages that asked for it, None where none did. running, installed: releases of the kernel, the
    second one "" where the host has none of its own. stale: programs that use a library which was replaced.
    """
    if required is not None:
        return f"{' '.join(required.split()) or 'a package'} asks for it"
    if installed and installed != running:
        return f"the kernel {installed} is installed, and {running} runs"
    if programs := sorted(set(stale)):
        return f"{', '.join(programs)} still use libraries that were replaced"
    return ""


def stale(proc: Path = Path("/proc")) -> Iterator[str]:
    """The names of programs that use a library which was replaced since they were started."""
    for folder in proc.glob("[0-9]*"):
        try:
            maps = (folder / "maps").read_text(encoding="utf-8", errors="replace")
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:  # gone meanwhile
            continue
        if any(LIBRARY.search(line) for line in maps.splitlines()):
            yield name


def _required(folder: Path = Path("/run")) -> str | None:
    if not (folder / "reboot-required").exists():
        return None
    named = folder / "reboot-required.pkgs"
    return named.read_text(encoding="utf-8") if named.exists() else ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="not only security updates")
    options = parser.parse_args(arguments)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    simulated = subprocess.run(SIMULATE, capture_output=True, text=True, check=True, env=environment).stdout
    kernel = Path("/vmlinuz")
    installed = kernel.resolve().name.partition("-")[2] if kernel.is_symlink() else ""
    reason = reboot_reason(_required(), os.uname().release, installed, stale())
    print(json.dumps({"packages": packages(simulated, every=options.all), "reboot": reason}))
    return 0
