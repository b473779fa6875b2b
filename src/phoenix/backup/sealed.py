"""Archives that only an operator can open: encrypted with age to public keys, so that no host holds what opens them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

AGE = "age"
RECIPIENTS = Path("/etc/phoenix/backup/recipients")


class Unsealed(Exception):
    """An archive could not be encrypted or opened. The message states why."""


@contextlib.contextmanager
def sealing(target: Path, recipients: Path = RECIPIENTS) -> Iterator[IO[bytes]]:
    """A stream whose content ends up encrypted in target, which is complete once this ends. Raises Unsealed."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [AGE, "--encrypt", "--recipients-file", str(recipients), "--output", str(target)],
            stdin=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdin
        broken = False
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as stream:
                broken = True
                yield stream
                broken = False
        finally:
            status = process.wait()
        if status or broken:
            raise Unsealed(f"{target.name} can't be encrypted for {recipients}: {_complaint(errors)}")


@contextlib.contextmanager
def opened(source: Path, identity: str) -> Iterator[tarfile.TarFile]:
    """The archive in an encrypted file, to be read once from its beginning to its end.

    identity: the private key, of age or SSH, which is never written to a disk. Raises Unsealed.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [AGE, "--decrypt", "--identity", "-", str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdin and process.stdout
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:
            stream.write(identity.strip().encode() + b"\n")
        cause = None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                yield archive
            while process.stdout.read(1024 * 1024):  # age has verified it all only at its end
                pass
        except tarfile.TarError as error:
            cause = error
        finally:
            process.stdout.close()
            status = process.wait()
        if status or cause:
            raise Unsealed(f"{source.name} can't be opened with this key: {_complaint(errors) or cause}") from cause


def sealed_for(source: Path) -> list[str]:
    """Whom an archive is encrypted for, by its header: `marks` of the recipients, sorted. Raises Unsealed."""
    found = []
    with source.open("rb") as stream:
        if stream.readline(100) != b"age-encryption.org/v1\n":
            raise Unsealed(f"{source.name} is not an archive of age's")
        while (line := stream.readline(4096)) and not line.startswith(b"---"):
            words = line.decode("ascii", errors="replace").split()
            if words[:1] == ["->"]:
                found.append(" ".join(words[1:3]) if words[1].startswith("ssh-") else words[1])
    return sorted(found)


def marks(recipients: Iterable[str]) -> list[str]:
    """What the header of an archive for these recipients has: an SSH key's tag, or that it is one of age's keys.

    https://github.com/C2SP/C2SP/blob/main/age.md and age's package agessh. Raises ValueError for what is no key.
    """
    found = []
    for recipient in recipients:
        words = recipient.split()
        if not words:
            continue
        if not words[0].startswith("ssh-"):
            found.append("X25519")
            continue
        try:
            digest = hashlib.sha256(base64.b64decode(words[1], validate=True)).digest()
        except (IndexError, binascii.Error) as error:
            raise ValueError(f"{recipient[:60]!r} is not a public key") from error
        found.append(f"{words[0]} {base64.b64encode(digest[:4]).decode().rstrip('=')}")
    return sorted(found)


def _complaint(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").splitlines()
    return "; ".join(line for line in lines if line.strip() and "age/report" not in line)
