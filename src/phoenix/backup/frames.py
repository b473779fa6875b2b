"""The protocol between a sender and the store, over SSH.

The store answers in lines of JSON. The sender writes frames: a letter, four bytes of length, the content. A stream
that ends in the middle is never accepted as complete, and a sender that falls silent is dropped.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

DATA, ALIVE, END, ABORT, FILE = b"D", b"A", b"E", b"X", b"F"
HEAD = struct.Struct(">cI")
LIMIT = 64 * 1024 * 1024


class Broken(Exception):
    """The peer ended, fell silent, or violated the protocol."""


class Sender:
    """Write frames; a separate thread sends signs of life while the sender computes.

    interval: seconds between signs of life.
    """

    def __init__(self, stream: IO[bytes], interval: float = 5.0) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(interval,), daemon=True)
        self._thread.start()

    def _live(self, interval: float) -> None:
        while not self._over.wait(interval):
            try:
                self.send(ALIVE, b"")
            except Broken:
                return

    def send(self, kind: bytes, content: bytes) -> None:
        """Write a frame. Raises Broken when the connection to the store is lost."""
        try:
            with self._lock:
                self._stream.write(HEAD.pack(kind, len(content)))
                self._stream.write(content)
                self._stream.flush()
        except (OSError, ValueError) as error:
            raise Broken(f"the connection to the store is lost: {error}") from error

    def send_json(self, kind: bytes, content: dict[str, Any]) -> None:
        self.send(kind, json.dumps(content).encode())

    def close(self) -> None:
        self._over.set()


def say(**answer: Any) -> None:
    """Write the store's answer to standard output."""
    print(json.dumps(answer), flush=True)


def alive(handle: int) -> bool:
    """Read one sign of life from a sender that has nothing else to send yet; False when it has ended.

    Raises Broken when it sent something else.
    """
    head = b""
    while len(head) < HEAD.size:
        piece = os.read(handle, HEAD.size - len(head))
        if not piece:
            return False
        head += piece
    if head != HEAD.pack(ALIVE, 0):
        raise Broken("the sender did not wait for its turn")
    return True


def receive(handle: int, silence: float, limit: float = math.inf) -> Iterator[tuple[bytes, bytes]]:
    """Frames from a file descriptor, without the signs of life.

    silence: seconds without a sign of life after which the sender is dropped; limit: seconds for the whole transfer.
    """
    buffer = bytearray()
    deadline = time.monotonic() + limit

    def fill(length: int) -> None:
        while len(buffer) < length:
            if time.monotonic() > deadline:
                raise Broken(f"the sender took longer than {limit:g} s")
            if not select.select([handle], [], [], silence)[0]:
                raise Broken(f"the sender was silent for {silence:g} s")
            chunk = os.read(handle, 1024 * 1024)
            if not chunk:
                raise Broken("the sender's connection ended in the middle")
            buffer.extend(chunk)

    while True:
        fill(HEAD.size)
        kind, length = HEAD.unpack_from(buffer)
        if kind not in (DATA, ALIVE, END, ABORT, FILE) or length > LIMIT:
            raise Broken("the sender speaks another protocol")
        fill(HEAD.size + length)
        content = bytes(buffer[HEAD.size : HEAD.size + length])
        del buffer[: HEAD.size + length]
        if kind != ALIVE:
            yield kind, content
