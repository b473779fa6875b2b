#!/usr/bin/python3
"""Keep so many processes wanting a processor, so that everything else of the machine waits for its turn.

usage: saturate.py PROCESSES    (until it is ended, with all of them)
"""

from __future__ import annotations

import os
import sys


def spin() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


def main() -> None:
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            spin()
            os._exit(0)
    while True:
        os.wait()


if __name__ == "__main__":
    main()
