"""Prints what the replica set looks like from this member, as JSON; nothing here needs a login.

Arguments: own address, port, seconds to wait, what to wait for (answer | primary | member), all members' addresses.
  silent    addresses that do not answer
  fresh     this member has never been part of a set
  initiated some member is part of a set
  primary   the primary's address, or ""
  no_users  this member is the primary and has no user yet (the localhost exception is open)
"""

import json
import sys
import time

try:
    import pymongo
    from pymongo.errors import OperationFailure, PyMongoError
except ImportError:
    pymongo = None  # Check mode on a bare host.


def look(own, port, addresses):
    state = {"silent": [], "fresh": False, "initiated": False, "primary": "", "no_users": False, "member": False}
    for address in addresses:
        # The localhost exception, as its name says, is for the loopback address only.
        client = pymongo.MongoClient(
            "127.0.0.1" if address == own else address, port, directConnection=True, serverSelectionTimeoutMS=2000
        )
        try:
            hello = client.admin.command("hello")
            state["initiated"] = state["initiated"] or "setName" in hello
            if address == own:
                state["fresh"] = "setName" not in hello
                state["member"] = bool(hello.get("isWritablePrimary") or hello.get("secondary"))
            if hello.get("isWritablePrimary"):
                state["primary"] = address
            if address == own and hello.get("isWritablePrimary"):
                try:
                    client.admin.command("replSetGetStatus")
                    state["no_users"] = True
                except OperationFailure:
                    pass
        except PyMongoError:
            state["silent"].append(address)
        finally:
            client.close()
    return state


def enough(state, own, goal):
    if own in state["silent"]:
        return False
    if goal == "primary":
        return bool(state["primary"])
    if goal == "member":
        return state["member"] and bool(state["primary"])
    if state["initiated"]:
        return bool(state["primary"])
    return not state["silent"]


def main():
    own, port, seconds, goal, addresses = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5:]
    end = time.monotonic() + seconds
    while True:
        if pymongo:
            state = look(own, port, addresses)
        else:
            state = {
                "silent": addresses,
                "fresh": True,
                "initiated": False,
                "primary": "",
                "no_users": False,
                "member": False,
            }
        if enough(state, own, goal) or time.monotonic() >= end:
            break
        time.sleep(0.5)
    print(json.dumps(state))
    return 0 if enough(state, own, goal) else 3


sys.exit(main())
