"""Hosts made on demand: the contract of providers, its client, and the life of a host (docs/providers.md)."""
