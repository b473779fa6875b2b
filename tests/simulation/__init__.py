"""Autoscalers on paper: the daemon's own policy, and models of others, against recorded or made-up traffic."""
