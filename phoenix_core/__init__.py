"""What Phoenix decides, apart from Ansible: pure, typed functions that the filter plugins hand to the playbooks."""
