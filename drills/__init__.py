"""Drills: the sections of docs/runbook.md, rehearsed on the running lab fleet under load.

make drill NAME=…, make drills. drills/catalog.py says which section each one rehearses; a unit test compares it with
the runbook.
"""
