"""The store's side of a sender's key, which may add, and neither overwrite, nor delete, nor read."""

from __future__ import annotations

import json
import os
import shlex

from phoenix.backup import frames, intake_dumps, intake_logs
from phoenix.backup.oplog import intake
from phoenix.backup.store import NAME, Store


def serve(store: Store, host: str, command: str, dumps: bool = False) -> int:
    """Serve one session; sshd runs this for a sender's key.

    host: whose key it is; command: what the sender asked for; dumps: whether the host is a member of the replica set.
    """
    os.umask(0o027)
    store.prepare()
    words = shlex.split(command)
    if words[:1] == ["dump"] and len(words) == 2 and dumps:
        intake_dumps.receive(store, host, json.loads(words[1]))
    elif words == ["logs"]:
        intake_logs.receive(store, host)
    elif words == ["oplog"] and dumps:
        intake.receive(store)
    elif words[:1] == ["await"] and len(words) == 2 and NAME.fullmatch(words[1]) and dumps:
        intake_dumps.await_proof(store, words[1])
    else:
        frames.say(answer="refused", reason="this key may only add logs" + (", dumps and the oplog" if dumps else ""))
        return 1
    return 0
