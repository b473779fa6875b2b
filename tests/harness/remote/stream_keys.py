#!/usr/bin/python3
"""Print, as JSON, whether this host's Netdata parent accepts its key, and one that nobody has. With Phoenix's package.

usage: stream_keys.py PARENT PORT
"""

import json
import platform
import sys
import uuid
from pathlib import Path

from phoenix.monitoring import streaming

own = streaming.sent(Path("/etc/netdata/stream.conf").read_text(encoding="utf-8"))
guid = Path("/var/lib/netdata/registry/netdata.public.unique.id").read_text(encoding="ascii").strip()
asked = [streaming.ask(sys.argv[1], int(sys.argv[2]), key, platform.node(), guid) for key in (own, str(uuid.uuid4()))]
print(json.dumps([streaming.verdict(answer) for answer in asked]))
