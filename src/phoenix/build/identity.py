"""The identity of this copy of the package; `phoenixctl build toolkit` writes the build's own into the archive."""

from __future__ import annotations

from phoenix import __version__

BUILD = "source"


def version() -> str:
    """The version with the build, which names the content: two builds of one version differ in it."""
    return f"{__version__}-{BUILD}"
