"""Base images of the lab's hosts: a plain Debian that boots, made from the machine's own package sources."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import docker
from docker.errors import ImageNotFound

REPOSITORY = "phoenix-base"
# What a provider's plain image holds, no more: everything else is the roles' to install.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "sudo",
    "openssh-server",
    "iproute2",
    "procps",
    "ca-certificates",
)


def _sources(suite: str) -> tuple[str, str]:
    """Mirror to bootstrap from, and the sources list of the image, both taken from this machine's configuration.

    Raises:
        RuntimeError: this machine's apt knows no Debian repository.
    """
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    by_label = {}
    for line in listing.splitlines():
        origin, label, uri = line.split("|")
        if origin == "Debian":
            by_label[label] = uri.rstrip("/")
    if "Debian" not in by_label:
        raise RuntimeError(
            "apt on this machine has no Debian repository: run apt-get update, or add one to its sources"
        )
    lines = [f"deb {by_label['Debian']} {suite} main", f"deb {by_label['Debian']} {suite}-updates main"]
    if "Debian-Security" in by_label:
        lines.append(f"deb {by_label['Debian-Security']} {suite}-security main")
    return by_label["Debian"], "\n".join(lines) + "\n"


def ensure(client: docker.DockerClient, suite: str, cache: Path, say: Callable[[str], None]) -> str:
    """Return the tag of the image for a Debian release, building it first where it is not there yet.

    Raises:
        RuntimeError: a step of the build failed; the message holds its output.
    """
    tag = f"{REPOSITORY}:{suite}"
    try:
        client.images.get(tag)
        return tag
    except ImageNotFound:
        pass
    say(f"building the image of Debian {suite} (about a minute)")
    mirror, sources = _sources(suite)
    root = cache / "images" / suite
    _remove(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(root), mirror])
    (root / "etc/apt/sources.list").write_text(sources)
    bootstrapped = f"phoenix-debootstrap:{suite}"
    with subprocess.Popen(["tar", "-C", str(root), "--one-file-system", "-c", "."], stdout=subprocess.PIPE) as tar:
        _run(["docker", "import", "-", bootstrapped], stdin=tar.stdout)
    if tar.returncode:
        raise RuntimeError(f"packing {root} failed: see tar's messages above")
    _remove(root)
    context = Path(__file__).parent / "image"
    client.images.build(path=str(context), tag=tag, buildargs={"BASE": bootstrapped}, pull=False, rm=True)
    return tag


def _remove(root: Path) -> None:
    """Remove a bootstrapped tree, in which debootstrap leaves /proc mounted when somebody reads it at that moment."""
    if (root / "proc").is_mount():
        _run(["umount", "--lazy", str(root / "proc")])
    _run(["rm", "-rf", "--one-file-system", str(root)])


def _run(command: list[str], stdin: object = None) -> None:
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
