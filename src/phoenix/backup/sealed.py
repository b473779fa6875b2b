"""Archives that only an operator can open: encrypted with age to public keys, so that no host holds what opens them."""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
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


def _complaint(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").splitlines()
    return "; ".join(line for line in lines if line.strip() and "age/report" not in line)
