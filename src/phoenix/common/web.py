"""HTTP requests that carry a secret, or whose delivery counts."""

from __future__ import annotations

import urllib.request
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an error: it would turn the request into another, and take the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def send(request: urllib.request.Request, timeout: float) -> int:
    """Send a request to where it is addressed and nowhere else; return the status, of 2xx.

    Raises:
        OSError: the receiver did not answer, or otherwise than with 2xx (HTTPError).
        HTTPException: its answer was not HTTP.
    """
    with urllib.request.build_opener(NoRedirect).open(request, timeout=timeout) as answer:
        return int(answer.status)
