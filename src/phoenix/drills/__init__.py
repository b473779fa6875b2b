"""Drills on the running fleet that clients do not notice, by timers on control.

A dump restored on trial, an alarm followed to its receivers, the floating address on the other load balancer and back.
"""
