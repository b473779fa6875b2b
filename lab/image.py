"""Base images of the lab's hosts: a plain Debian that boots, made from the machine's own package sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound
from docker.models.containers import Container

from lab import proxy

REPOSITORY = "phoenix-base"
BOOTSTRAPPED = "phoenix-debootstrap"
PREPARED = "phoenix-prepared"
COPIED = "phoenix-copy"
# The contents of a provider's plain image, and no more: the roles install everything else.
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


def sources(suite: str, apt: Sequence[str] = ("apt-get",)) -> tuple[str, str]:
    """Return the mirror to bootstrap from and the image's sources list, both from this machine's configuration.

    apt: the command, with options where it has package lists of its own.

    Raises:
        RuntimeError: apt on this machine has no Debian repository.
    """
    listing = subprocess.run(
        [*apt, "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"],
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


def bootstrap(suite: str, root: Path, packages: Iterable[str]) -> None:
    """Make the tree of a plain Debian in a folder, which root owns then; what was there is removed first.

    Raises:
        RuntimeError: a step failed; the message holds its output.
    """
    mirror, listed = sources(suite)
    remove_tree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    include = f"--include={','.join(packages)}"
    as_root(["debootstrap", "--variant=minbase", include, suite, str(root), mirror], _download_environment(mirror))
    as_root(["tee", str(root / "etc/apt/sources.list")], contents=listed)


def ensure(client: docker.DockerClient, suite: str, cache: Path, report: Callable[[str], None]) -> str:
    """Return the tag of the image for a Debian release, building it first if necessary.

    Raises:
        RuntimeError: a step of the build failed; the message holds its output.
    """
    tag = f"{REPOSITORY}:{suite}"
    try:
        client.images.get(tag)
        return tag
    except ImageNotFound:
        pass
    report(f"building the image of Debian {suite} (about a minute)")
    root = cache / "images" / suite
    bootstrap(suite, root, PACKAGES)
    bootstrapped = f"{BOOTSTRAPPED}:{suite}"
    pack = root_command(["tar", "-C", str(root), "--one-file-system", "-c", "."])
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
        imported = subprocess.run(
            ["docker", "import", "-", bootstrapped], stdin=tar.stdout, capture_output=True, text=True, check=False
        )
    if imported.returncode:
        raise RuntimeError(f"docker import failed: {imported.stderr.strip()}")
    if tar.returncode:
        raise RuntimeError(f"packing {root} failed: see tar's messages above")
    remove_tree(root)
    context = Path(__file__).parent / "image"
    client.images.build(path=str(context), tag=tag, buildargs={"BASE": bootstrapped}, pull=False, rm=True)
    return tag


def prepare(container: Container, tag: str) -> None:
    """Make the image of hosts on demand from a host's container, which goes on meanwhile.

    Raises:
        RuntimeError: a step failed.
    """
    exported = f"{COPIED}:{tag.partition(':')[2]}"
    with subprocess.Popen(["docker", "export", container.name], stdout=subprocess.PIPE) as copy:
        imported = subprocess.run(
            ["docker", "import", "-", exported], stdin=copy.stdout, capture_output=True, text=True, check=False
        )
    if imported.returncode or copy.returncode:
        raise RuntimeError(f"copying {container.name} failed: {imported.stderr.strip()}")
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(here / "prepared" / "Dockerfile", context)
        shutil.copy(here.parent / "docs" / "examples" / "seal-image", context)
        container.client.images.build(path=context, tag=tag, buildargs={"BASE": exported}, pull=False, rm=True)
    container.client.images.remove(exported, noprune=True)


def remove(client: docker.DockerClient, cache: Path, report: Callable[[str], None]) -> None:
    """Remove the images that no container uses, and the remains of an interrupted build."""
    for root in (cache / "images").glob("*"):
        remove_tree(root)
    for repository in (PREPARED, COPIED, REPOSITORY, BOOTSTRAPPED):
        for tag in (tag for found in client.images.list(name=repository) for tag in found.tags):
            try:
                client.images.remove(tag)
            except APIError as error:
                report(f"keeping {tag}: {error.explanation}")


def remove_tree(root: Path) -> None:
    """Remove a bootstrapped tree, in which debootstrap leaves /proc mounted if it is in use at that moment."""
    if (root / "proc").is_mount():
        as_root(["umount", "--lazy", str(root / "proc")])
    if root.exists():
        as_root(["rm", "-rf", "--one-file-system", str(root)])


def _download_environment(mirror: str) -> dict[str, str]:
    """Return the environment in which debootstrap reaches the mirror through the same proxy as apt."""
    found = proxy.of_mirror(mirror)
    return {"http_proxy": found, "https_proxy": found} if found else {}


def root_command(command: list[str], keep: Iterable[str] = ()) -> list[str]:
    """Return the command to run as root, through sudo for another user; `keep` names variables to preserve."""
    if os.geteuid() == 0:
        return command
    if shutil.which("sudo") is None:
        raise RuntimeError(f"{command[0]} needs root, and sudo is not installed: run this as root, or install sudo")
    kept = [f"--preserve-env={','.join(keep)}"] if keep else []
    return ["sudo", "--prompt", f"[sudo] password for %p, to run {command[0]}: ", *kept, *command]


def as_root(command: list[str], extra: Mapping[str, str] | None = None, contents: str | None = None) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    # The folders of debootstrap and its tools, which `su` does not add to the PATH.
    environment["PATH"] = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    done = subprocess.run(
        root_command(command, extra or ()),
        input=contents,
        env={**environment, **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
