"""Programs that begin with Ansible, each in a fork of this process, which has imported it: python fork_server.py FD.

For each request on the socket FD, an object of words and environment with the three standard files, a fork runs the
program that words[0] is and answers with its exit status. What a fork can't see otherwise than this process is what
Ansible reads as it is imported: ansible.cfg of the working directory, and the variables ANSIBLE_….
"""

from __future__ import annotations

import atexit
import copy
import gc
import importlib.util
import json
import marshal
import os
import runpy
import socket
import sys
import warnings
import zipfile
from types import SimpleNamespace
from typing import Any

import ansible.cli.adhoc
import ansible.cli.playbook
import ansible.executor.playbook_executor
import ansible.plugins.action  # noqa: F401 # all of them for the forks
from ansible.executor import module_common
from ansible.plugins import loader
from ansible.utils.path import cleanup_tmp_file


class Packed(zipfile.ZipFile):
    """A module's archive that also holds its files compiled, which takes half of the time that a module runs.

    Another version of Python than this one's passes them over.
    """

    def writestr(self, info: Any, data: Any, *_: Any) -> None:
        super().writestr(info, data)
        if info.filename.endswith(".py"):
            code = compile(data, info.filename, "exec", dont_inherit=True)
            twin = copy.copy(info)
            twin.filename += "c"
            unchecked = (1).to_bytes(4, "little") + bytes(8)
            super().writestr(twin, importlib.util.MAGIC_NUMBER + unchecked + marshal.dumps(code))


def prepare() -> None:
    """Load what every program loads at its start."""
    assert vars(module_common)["zipfile"] is zipfile  # an inner part of the pinned version
    vars(module_common)["zipfile"] = SimpleNamespace(**{**vars(zipfile), "ZipFile": Packed})
    loader.init_plugin_loader()
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    importlib.import_module("ansible_collections.ansible.builtin")
    for plugins in (loader.cache_loader, loader.callback_loader, loader.inventory_loader):
        list(plugins.all(class_only=True))
    loader.strategy_loader.get("linear", class_only=True)
    loader.connection_loader.get("local", class_only=True)
    loader.shell_loader.get("sh", class_only=True)


def become(words: list[str], environment: dict[str, str], files: list[int]) -> None:
    """Turn into the program, as if Python had been started for it."""
    atexit.unregister(cleanup_tmp_file)  # of the folder that keeps the modules that were packed, for the next fork
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    added = environment.get("PYTHONPATH", "")
    sys.path[:1] = [os.path.dirname(words[0]), *(added.split(os.pathsep) if added else [])]  # noqa: PTH120
    runpy.run_path(words[0], run_name="__main__")
    sys.exit()


def main(number: str) -> None:
    requests = socket.socket(fileno=int(number))
    prepare()
    gc.freeze()
    while True:
        data, files, *_ = socket.recv_fds(requests, 1 << 20, 3)
        if not data:
            return
        child = os.fork()
        if not child:
            requests.close()
            become(**json.loads(data), files=files)
        for file in files:
            os.close(file)
        requests.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
