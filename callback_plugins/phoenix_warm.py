"""Load the Jinja plugins once, before Ansible forks a process for each task on each host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: phoenix_warm
short_description: loads filters and tests in the process that all workers are forked from
description:
  - Ansible loads them where they are first used, which is in a worker, a process for one task on one host. So each
    worker would load all of them, and the package C(phoenix) with them, which took more than half of the processor
    time of a play.
type: aggregate
"""


class CallbackModule(CallbackBase):  # type: ignore[misc] # ansible-core has no types
    """Nothing but the loading. It needs no place in `callbacks_enabled`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "phoenix_warm"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        for loader in (filter_loader, test_loader):
            list(loader.all())
