"""Notifications of alarms: one message an incident, grouped, retried until delivered or refused for good.

Netdata's hook, `event`, spools each change of an alarm. `incidents` knows what is wrong, `messages` words it, `decide`
chooses what to report and when: all three know neither clock nor network. `channels` delivers, `netdata` queries what
the hook may have lost, `service` joins them, `deadman` watches over all of it. State and undelivered messages are
files, so a restart loses nothing.
"""
