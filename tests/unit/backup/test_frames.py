"""The protocol between a host and the store."""

from __future__ import annotations

import os
import threading

import pytest

from phoenix.backup import frames


def through(*pieces: bytes, silence: float = 0.3) -> list[tuple[bytes, bytes]]:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as stream:
        for piece in pieces:
            stream.write(piece)
    return list(frames.receive(read, silence))


def test_frames_arrive_whole_or_not_at_all() -> None:
    head = frames.HEAD.pack
    sent = head(b"D", 3) + b"abc" + head(b"A", 0) + head(b"E", 2) + b"{}"
    read, write = os.pipe()
    os.write(write, sent)
    found = frames.receive(read, 0.2)
    assert [next(found), next(found)] == [(b"D", b"abc"), (b"E", b"{}")]
    with pytest.raises(frames.Broken, match="silent"):
        next(found)
    for broken in (sent[:5], sent[:-1], head(b"D", 9) + b"abc", b"GET / HTTP/1.1\r\n"):
        with pytest.raises(frames.Broken):
            through(broken)


def test_a_sender_shows_that_it_is_alive() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stream:
        lively = frames.Sender(stream, interval=0.05)
        threading.Event().wait(0.3)
        lively.send(frames.END, b"")
        lively.close()
        assert next(frames.receive(read, 0.01)) == (b"E", b"")
