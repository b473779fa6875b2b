"""Autoscalers on paper: the daemon's own policy, and models of others, against recorded or made-up traffic."""

import sys
from pathlib import Path

# The daemon's package lies within its role.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles" / "autoscaler" / "files"))
