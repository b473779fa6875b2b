"""ansible-playbook with cheaper copies of what it has read, for the check of every playbook's and role's syntax."""

from __future__ import annotations

import sys

from ansible.cli.playbook import main

from tests.tools import copies

if __name__ == "__main__":
    copies.patch()
    sys.exit(main())
