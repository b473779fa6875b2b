"""Measurements of the design's figures on the running lab fleet, one module for each theme."""

import sys
from pathlib import Path

# As pytest's setting `pythonpath` does, for `python -m bench` from the top of the project.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
