"""Code shared by the end-to-end tests and the benchmark: the fleet's hosts, load, plays, failures, and waiting.

Neither imports the other. Programs that run on the fleet's hosts are files in remote/, and Phoenix's own programs there
are named only in `programs`.
"""
