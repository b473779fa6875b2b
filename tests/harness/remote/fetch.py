#!/usr/bin/python3
"""Request a URL once and print the result. Stdlib only; certificates are not verified: the lab's is self-signed.

usage: fetch.py URL [SECONDS]

The first line is "status NUMBER", "refused" or "timed out", then comes the body. Any other result is an error.
"""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request


def fetch(url: str, seconds: float) -> tuple[str, str]:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    )
    try:
        with opener.open(url, timeout=seconds) as answer:
            return f"status {answer.status}", answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return f"status {error.code}", error.read().decode(errors="replace")
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionRefusedError):
            return "refused", ""
        # By its text: before Python 3.10, a socket's time-out is not a TimeoutError.
        if "timed out" in str(reason):
            return "timed out", ""
        raise


if __name__ == "__main__":
    print("\n".join(fetch(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)))
