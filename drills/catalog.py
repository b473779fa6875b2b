"""Every section of docs/runbook.md: the drill that rehearses it, the test that does, or why nothing can.

tests/unit/test_drills.py compares this with the runbook.
"""

from __future__ import annotations

from collections.abc import Mapping

from drills import alarms, application, backup, balancers, database, hosts, rotation, scheduled, upgrades
from drills.model import Drill

DRILLS: list[Drill] = [
    *balancers.DRILLS,
    *database.DRILLS,
    *alarms.DRILLS,
    *application.DRILLS,
    *backup.DRILLS,
    *hosts.DRILLS,
    *rotation.DRILLS,
    *scheduled.DRILLS,
    *upgrades.DRILLS,
]

# Sections whose case an end-to-end test provokes, with what the section says to do: section -> file::test.
TESTED: Mapping[str, str] = {
    "Alarm: phoenix_service_cpu": "tests/e2e/test_alerts.py::test_busy_core_is_reported_once",
    "Alarm: phoenix_restarts": "tests/e2e/test_fleet.py::test_killed_instances_are_unseen",
    "Alarm: phoenix_http_errors": "tests/e2e/test_deploy.py::test_a_version_that_fails_later_is_found_by_its_answers",
    "Alarm: phoenix_floating_two": "tests/e2e/test_pair.py::test_two_masters_are_reported_and_become_one",
    "Alarm: phoenix_deploy": "tests/e2e/test_deploy.py::test_a_slow_version_is_stopped_at_the_canary",
    "Alarm: phoenix_deploy_running": (
        "tests/e2e/test_deploy.py::test_a_deploy_cut_by_controls_reboot_is_rolled_back_by_itself"
    ),
    "Alarm: phoenix_demand_stray": "tests/unit/provider/test_service.py::test_a_stray_that_is_not_deleted_is_counted",
    "Alarm: phoenix_demand_stalled": (
        "tests/unit/provider/test_service.py::test_a_damaged_record_stops_everything_and_is_said"
    ),
    "A certificate by ACME is not issued": (
        "tests/serving/test_acme.py::test_a_refused_one_leaves_the_old_one_serving_and_fails"
    ),
    "Control, the database, or the whole fleet is lost": (
        "tests/e2e/test_lost.py::test_what_is_lost_is_back_with_its_data"
    ),
    "An old dump is wanted again": (
        "tests/unit/backup/test_returned.py::test_a_dump_that_retention_let_go_can_come_back"
    ),
    "Alarm: phoenix_oplog_gap": "tests/database/test_moment.py::test_a_gap_is_reported_refused_and_followed_by_a_dump",
    "Alarm: phoenix_backup_result": "tests/e2e/test_backup.py::test_a_shrunken_backup_fails_a_unit",
    "Alarm: phoenix_notify": "tests/e2e/test_alerts.py::test_message_survives_a_receiver_that_is_down",
    "Alarm: phoenix_mongodb_primary": "tests/e2e/test_power.py::test_fleet_stopped_and_started_serves_untouched",
    "No heartbeat (dead man's switch)": (
        "tests/e2e/test_stopped_hosts.py::test_without_control_nothing_changes_and_all_is_served"
    ),
    "Alarm: phoenix_host_silent": "tests/e2e/test_soak.py::test_single_faults_are_survived",
    "The backup is late, failed, unproven, shrunken, or the store is full": (
        "tests/e2e/test_backup.py::test_a_killed_run_is_taken_over_and_leaves_nothing_partial"
    ),
}

# Why sections are not rehearsed: reason -> the sections.
NOT_DRILLED: Mapping[str, tuple[str, ...]] = {
    "it says where to read the cause and which setting to change; nothing is done that could go wrong": (
        "Alarm: phoenix_core_cpu",
        "Alarm: phoenix_host_cpu",
        "Alarm: phoenix_autoscaler_maximum",
        "Alarm: phoenix_scaling",
        "Alarm: phoenix_process_unplaced",
        "Alarm: phoenix_demand_creation",
        "Alarm: phoenix_demand_provider",
        "Alarm: phoenix_demand_leaving",
        "Alarm: phoenix_pipeline",
        "Alarm: phoenix_collector",
        "Alarm: phoenix_metrics_missing",
        "Alarm: phoenix_notify_refused",
        "Alarm: phoenix_certificate_name",
        "Alarm: phoenix_backup_late",
        "Alarm: phoenix_oplog_lag",
        "Alarm: phoenix_oplog_proof",
        "Alarm: phoenix_backup_offsite",
        "Alarm: phoenix_backup_logs",
        "Alarm: phoenix_site",
    ),
    "its remedy is one command of systemd, or one run of site.yml for one role, which the tests of that role run": (
        "Alarm: phoenix_floating_none",
        "Alarm: phoenix_keepalived",
        "Alarm: phoenix_autoscaler_data",
        "Alarm: phoenix_autoscaler_frozen",
        "Alarm: phoenix_autoscaler_withheld",
        "Alarm: phoenix_drained",
        "Alarm: phoenix_pipeline_running",
        "Alarm: phoenix_failed_unit",
        "Alarm: phoenix_unit_stopped",
        "Alarm: phoenix_certificate",
    ),
    "its remedy is a change of the server's own limits, which MongoDB documents and the lab's data never reaches": (
        "Alarm: phoenix_mongodb_lag",
        "Alarm: phoenix_mongodb_oplog",
        "Alarm: phoenix_backup_window",
    ),
    "the lab's containers share the disks, the memory, the clock and the hypervisor of the machine below": (
        "Alarm: phoenix_steal",
        "Alarm: phoenix_disk_filling",
        "Alarm: phoenix_disk_full",
        "Alarm: phoenix_inodes_full",
        "Alarm: phoenix_read_only",
        "Alarm: phoenix_memory",
        "Alarm: phoenix_memory_pressure",
        "Alarm: phoenix_clock",
    ),
    "it begins on the operator's own machine, without the inventory: by hand": ("The inventory is lost as well",),
}
