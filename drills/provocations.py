"""How each alarm of Phoenix is provoked on the running lab fleet, and why one is not.

A fault of the real thing where the lab has the thing and the fault ends with its cause; else a state that the real
plugin, or the real agent, is fed. Nothing outlives its provocation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from drills.faults import (
    busy_core,
    failed_run,
    file_system,
    former_run,
    held_back,
    killed_again_and_again,
    no_instance,
    no_keepalived,
    no_majority,
    other_certificate,
    out_of_rotation,
    refused,
    shell,
    spare_balancer,
    two_masters,
    unreachable,
)
from drills.model import Provocation
from drills.states import DAY, FOLDER, HOUR, fed, machine, machine_in_need
from tests.harness.autoscaling import UNITS

FULL = file_system("full", "size=20m", "head -c 19600000 /dev/zero >x", "rm x")
INODES = file_system("inodes", "size=1m,nr_inodes=100", "for n in $(seq 97); do : >$n; done", "rm *")
FILLING = file_system("filling", "size=40m", "head -c 33000000 /dev/zero >x", "rm x")
LOCKED = file_system("locked", "size=1m", "mount -o remount,ro .", "mount -o remount,rw .")

# Those that take longest first: the others are provoked meanwhile.
PROVOCATIONS = [
    Provocation(
        (
            "phoenix_core_cpu",
            "phoenix_host_cpu",
            "phoenix_steal",
            "phoenix_memory",
            "phoenix_memory_pressure",
            "phoenix_clock",
            "phoenix_mongodb_oplog",
        ),
        "the agent of the standby host shows charts of a machine in need, from a plugin of the trial",
        machine_in_need,
        machine,
        # Its chart begins here, and the window has to be full.
        settings={"alerting_clock_seconds": 60},
        real=False,
        raise_s=420,
    ),
    Provocation(
        ("phoenix_certificate", "phoenix_certificate_name"),
        "a load balancer serves a certificate of five days, for another name",
        other_certificate,
        raise_s=420,
        clear_s=480,
    ),
    Provocation(
        ("phoenix_restarts",),
        "an instance is killed four times",
        killed_again_and_again,
        uses=("application",),
        clear_s=600,
    ),
    Provocation(
        ("phoenix_collector", "phoenix_site", "phoenix_unit_stopped"),
        "nginx is stopped on the load balancer without the address",
        partial(spare_balancer, do="systemctl stop nginx", undo="systemctl start nginx"),
        uses=("pair",),
    ),
    Provocation(
        ("phoenix_disk_filling",),
        "a file system of 40 MB is filled to 82 % within a minute",
        *FILLING,
        settings={"alerting_disk_window_minutes": 1},
    ),
    Provocation(("phoenix_disk_full",), "a file system of 20 MB is filled", *FULL),
    Provocation(("phoenix_inodes_full",), "97 of a file system's 100 inodes are used", *INODES),
    Provocation(("phoenix_read_only",), "a file system is made read-only", *LOCKED),
    Provocation(
        ("phoenix_notify_refused",),
        "the webhook's receiver answers 410; afterwards phoenix-notify is restarted, as it remembers for an hour",
        refused,
        uses=("webhook",),
    ),
    Provocation(("phoenix_notify",), "the webhook's receiver is stopped", unreachable, uses=("webhook",)),
    Provocation(
        ("phoenix_host_silent",),
        "the agent of a database host is stopped",
        shell("db", "systemctl stop netdata", "systemctl start netdata"),
        uses=("db",),
    ),
    Provocation(("phoenix_mongodb_lag",), "a secondary is locked (fsyncLock)", held_back, uses=("db",)),
    Provocation(
        ("phoenix_mongodb_down", "phoenix_mongodb_primary"),
        "two of three members are stopped",
        no_majority,
        uses=("db",),
    ),
    Provocation(
        ("phoenix_service_cpu",), "an instance is asked for much work without pause", busy_core, uses=("application",)
    ),
    Provocation(
        ("phoenix_instances_missing", "phoenix_http_errors"),
        "every instance is stopped, the spares as well, while 5 requests a second come",
        no_instance,
        uses=("application", "pair"),
    ),
    Provocation(
        ("phoenix_autoscaler_data",),
        "the autoscaler is stopped",
        shell("control", f"systemctl stop {UNITS}", f"systemctl start {UNITS}"),
    ),
    Provocation(
        ("phoenix_keepalived",),
        "keepalived is stopped on the load balancer without the address",
        partial(spare_balancer, do="systemctl stop keepalived", undo="systemctl start keepalived"),
        uses=("pair",),
    ),
    Provocation(("phoenix_floating_two",), "the load balancers do not hear each other", two_masters, uses=("pair",)),
    Provocation(
        ("phoenix_floating_none",), "keepalived is stopped on both load balancers", no_keepalived, uses=("pair",)
    ),
    Provocation(
        ("phoenix_failed_unit",),
        "a unit of the standby host ends with 1",
        shell(
            "app_standby",
            "systemd-run --quiet --unit=phoenix-trial-failed false; sleep 1; systemctl is-failed phoenix-trial-failed",
            "systemctl reset-failed phoenix-trial-failed",
        ),
    ),
    Provocation(
        ("phoenix_metrics_missing",),
        "the backup's gauges are as old as three hours",
        shell("control", f"touch --date '3 hours ago' {FOLDER}/backup.prom", f"touch {FOLDER}/backup.prom"),
    ),
    Provocation(
        ("phoenix_drained",),
        "a server that no host has is recorded as out of rotation",
        out_of_rotation,
        settings={"alerting_drained_seconds": 20},
    ),
    Provocation(("phoenix_pipeline",), "`phoenixctl pipeline result failed`, then `good`", failed_run, former_run),
    fed("phoenix_scaling", "phoenix_autoscaler_failed_actions_total", 2, settle_s=75, alerting_scaling_minutes=1),
    fed("phoenix_autoscaler_maximum", "phoenix_autoscaler_at_maximum", 1, alerting_autoscaler_maximum_seconds=20),
    fed("phoenix_autoscaler_frozen", "phoenix_autoscaler_frozen", 1, alerting_deploy_seconds=20),
    fed("phoenix_autoscaler_withheld", "phoenix_autoscaler_withheld", 2, alerting_autoscaler_withheld_seconds=20),
    fed("phoenix_deploy", "phoenix_deploy_last_result", 2),
    fed("phoenix_deploy_running", "phoenix_deploy_running", 1, alerting_deploy_seconds=20),
    fed("phoenix_pipeline_running", "phoenix_pipeline_running", 1, alerting_pipeline_seconds=20),
    fed("phoenix_process_unplaced", "phoenix_processes_unplaced_age_seconds", 300),
    fed("phoenix_demand_creation", "phoenix_demand_failed_creations", 3),
    fed("phoenix_demand_provider", "phoenix_demand_provider_away_seconds", 400),
    fed("phoenix_demand_stray", "phoenix_demand_stray_hosts", 1, alerting_demand_stray_seconds=20),
    fed("phoenix_demand_leaving", "phoenix_demand_leaving_seconds", 2000),
    fed("phoenix_demand_stalled", "phoenix_demand_checked_timestamp_seconds", HOUR),
    fed("phoenix_backup_late", "phoenix_backup_newest_good_timestamp_seconds", 27 * HOUR),
    fed("phoenix_backup_result", "phoenix_backup_last_result", 2),
    fed("phoenix_backup_window", "phoenix_backup_window_ratio", 0.9),
    fed("phoenix_backup_offsite", "phoenix_backup_offsite_newest_timestamp_seconds", 3 * DAY),
    fed("phoenix_backup_logs", "phoenix_backup_logs_oldest_age_seconds", 3 * DAY),
    fed("phoenix_oplog_lag", "phoenix_backup_oplog_timestamp_seconds", 700),
    fed("phoenix_oplog_gap", "phoenix_backup_oplog_gap_result", 2),
    fed("phoenix_oplog_proof", "phoenix_backup_chain_result", 1),
    fed("phoenix_drill_failed", "phoenix_drills_failed", 1),
    fed("phoenix_drill_late", "phoenix_drills_oldest_success_timestamp_seconds", 100 * DAY),
    fed("phoenix_test", "phoenix_test_alarm", 1),
]
# Alarm -> why it is not provoked here.
NOT_PROVOKED: Mapping[str, str] = {}
