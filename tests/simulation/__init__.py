"""Simulation of autoscalers: the daemon's own policy and models of others, with recorded or synthetic traffic."""

import sys
from pathlib import Path

# As pytest's setting `pythonpath` does, for `python -m tests.simulation` from the top of the project.
_SOURCES = str(Path(__file__).resolve().parents[2] / "src")
if _SOURCES not in sys.path:
    sys.path.insert(0, _SOURCES)
