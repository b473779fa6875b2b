"""Tells people about alarms: one message an incident, grouped, repeated until delivered.

Netdata's hook, phoenix_notify_event.py, spools each change of an alarm. `incidents` knows what is wrong, `messages`
words it, `decide` says what is told and when: all three know neither clock nor network. `channels` delivers, `netdata`
asks for what the hook may have lost, `service` joins them. State and undelivered messages are files, so a restart loses
nothing.
"""
