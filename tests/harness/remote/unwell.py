#!/usr/bin/python3
"""Print why control would not send its heartbeat now; nothing while all is well. With Phoenix's package."""

import time

from phoenix.alerting import deadman

print(deadman.unwell(time.time()))
