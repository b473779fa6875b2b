"""Netdata plugin that charts what Phoenix's alarms read: services, nginx, MongoDB, certificates, own metrics.

Netdata runs it as its user and reads charts from its standard output
(https://learn.netdata.cloud/docs/developer-and-contributor-corner/external-plugins). Which collectors run is decided by
the sections that the configuration, a JSON file, holds: see `plugin`. Each collector has a thread and a pace of its
own, so that a database that does not answer delays no other chart. Only Debian's Python and its standard library, and
for MongoDB the driver in the folder that the configuration names.
"""
