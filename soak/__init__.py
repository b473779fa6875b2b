"""A soak: random single faults on the running lab fleet under load, drawn from a seed, and a report.

make soak MINUTES=30 SEED=n. docs/soak.md says what is done and what is judged.
"""
