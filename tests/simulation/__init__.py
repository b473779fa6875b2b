"""Simulation of autoscalers: the daemon's own policy and models of others, with recorded or synthetic traffic."""
