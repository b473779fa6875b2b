"""Backups of Phoenix: made by the database hosts, kept and proven by the store, restored from there.

Runs on Python 3.9 (Debian 11) and later, with the standard library; what talks to the database needs pymongo.
"""
