#!/usr/bin/python3
"""Print the time by the monotonic clock, which the lab's hosts share, and send a signal to all processes of a name.

usage: signalled.py SIGNAL NAME    (KILL nginx)
"""

import subprocess
import sys
import time

print(time.monotonic(), flush=True)
subprocess.run(["pkill", f"-{sys.argv[1]}", "--exact", sys.argv[2]], check=True)
