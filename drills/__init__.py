"""Drills: the sections of docs/runbook.md, rehearsed on the running lab fleet under load.

make drill NAME=…, make drills. drills/catalog.py says which section each one rehearses; a unit test compares it with
the runbook.
"""

import sys
from pathlib import Path

# As pytest's setting `pythonpath` does, for `python -m drills` from the top of the project.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
