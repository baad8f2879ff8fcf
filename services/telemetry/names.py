"""Every metric, with its type, unit, labels and meaning; `docs/metrics.md` is made from this table.

A part can only export what stands here, and each sample gets the label `part` beside those of the table.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Type = Literal["counter", "gauge", "histogram", "info"]

OTHER: Final = "other"
"""In the place of a name that is one too many for a label."""

QUICK_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
LONG_S: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


class Spec(NamedTuple):
    """One metric.

    Args:
        name: without the `_total` of a counter.
        type: as Prometheus calls it.
        unit: that of its values.
        labels: beside `part`.
        meaning: in a sentence.
        parts: which export it.
        buckets: upper bounds of a histogram's, in its unit.
    """

    name: str
    type: Type
    unit: str
    labels: tuple[str, ...]
    meaning: str
    parts: tuple[str, ...]
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """Its name as a query has it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.type, "")


GATEWAY: Final = ("gateway",)
PROJECTOR: Final = ("projector",)
KEEPER: Final = ("keeper",)
WORKER: Final = ("worker",)
PUSHER: Final = ("pusher",)
WRITERS: Final = ("gateway", "keeper", "worker", "pusher")
PROCESS: Final = ("process",)

SPECS: Final = (
    # Events and commands, counted by whoever writes them
    Spec("switchyard_events_appended", "counter", "events", ("type", "kind"),
         "events that this part wrote and the broker acknowledged", WRITERS),
    Spec("switchyard_tenant_events", "counter", "events", ("type", "tenant"),
         "the same events by tenant", WRITERS),
    Spec("switchyard_appends", "counter", "tries", ("command", "outcome"),
         "tries to write what a command comes to: `recorded`, `ignored` (its effect was there), `rejected` "
         "(the state does not allow it), `conflict` (another writer was first; it is decided again), "
         "`unavailable` (not stored) or `unknown` (no acknowledgement came; it may be stored)", WRITERS),
    Spec("switchyard_append_seconds", "histogram", "seconds", (),
         "time from an event's first try to the broker's acknowledgement", WRITERS, QUICK_S),
    Spec("switchyard_requeued", "counter", "events", ("cause",),
         "times that a job came into a lane again, by cause", WRITERS),
    Spec("switchyard_attempts_started", "counter", "attempts", ("kind",),
         "attempts that began, under a lease of either sort", WRITERS),
    Spec("switchyard_attempts_ended", "counter", "attempts", ("kind", "outcome"),
         "attempts that ended: `succeeded`, `proposed`, `failed`, `timed_out`, `released` (handed back), "
         "`lost` (the lease was), `stopped` (cancelled or expired) or `discarded`", WRITERS),
    Spec("switchyard_retries", "counter", "attempts", ("kind",),
         "failed attempts after which another follows", WRITERS),
    Spec("switchyard_jobs_dead", "counter", "jobs", ("reason",), "jobs that died, by reason", WRITERS),
    Spec("switchyard_wait_seconds", "histogram", "seconds", ("kind",),
         "time that a job stood in its lane before an attempt began", WRITERS, LONG_S),
    Spec("switchyard_run_seconds", "histogram", "seconds", ("kind",),
         "time from an attempt's start to its end, whatever the end", WRITERS, LONG_S),
    Spec("switchyard_previews", "counter", "previews", ("outcome",),
         "previews that attempts gave to this part: `sent`, or dropped as `too_fast`, `too_large`, "
         "`unreadable` (no such image) or `unsent` (the broker was away, or the attempt had ended)",
         ("gateway", "worker")),
    # The whole system, from one projector at a time
    Spec("switchyard_jobs", "gauge", "jobs", ("kind", "state"),
         "jobs in the read model; damaged ones under `damaged`", PROJECTOR),
    Spec("switchyard_workers", "gauge", "workers", ("state",), "live workers, also over REST", PROJECTOR),
    Spec("switchyard_worker_slots", "gauge", "slots", (), "slots of all live workers", PROJECTOR),
    Spec("switchyard_lost_slots", "gauge", "slots", (),
         "slots of live workers that hold code which outlived its attempt", PROJECTOR),
    Spec("switchyard_unreadable_workers", "gauge", "records", (),
         "records of workers that cannot be read", PROJECTOR),
    Spec("switchyard_quarantined_messages", "gauge", "messages", ("stream",),
         "messages that no reader could read; `other` for streams that are not Switchyard's", PROJECTOR),
    Spec("switchyard_stream_bytes", "gauge", "bytes", ("stream",),
         "bytes in each stream: `JOBS` is the event log, `OBJ_files` the files", PROJECTOR),
    Spec("switchyard_tenant_job_bytes", "gauge", "bytes", ("tenant",),
         "bytes of jobs that are not archived, as they were submitted; the tenants with the most by name",
         PROJECTOR),
    Spec("switchyard_tenant_file_bytes", "gauge", "bytes", ("tenant",),
         "bytes of files; the tenants with the most by name", PROJECTOR),
    Spec("switchyard_kind_job_bytes", "gauge", "bytes", ("kind",),
         "bytes of jobs that are not archived, as they were submitted; the kinds with the most by name",
         PROJECTOR),
    Spec("switchyard_read_model_bytes", "gauge", "bytes", (), "bytes of this host's read model", PROJECTOR),
    Spec("switchyard_stream_limit_bytes", "gauge", "bytes", ("stream",),
         "bytes that each stream may hold, where it has a limit", PROJECTOR),
    Spec("switchyard_consumer_lag_messages", "gauge", "messages", ("stream", "consumer"),
         "messages that the keeper has not been handed, for each of its consumers", PROJECTOR),
    Spec("switchyard_consumer_unacknowledged_messages", "gauge", "messages", ("stream", "consumer"),
         "messages that the keeper was handed and has not answered", PROJECTOR),
    Spec("switchyard_lanes", "gauge", "lanes", (),
         "lanes and priorities in use; each has a consumer, and `SWITCHYARD_LANES` limits them", PROJECTOR),
    Spec("switchyard_lane_lag_messages", "gauge", "messages", ("kind",),
         "messages of waiting jobs that no worker was handed, in all lanes of a kind; looked at every 10 s",
         PROJECTOR),
    Spec("switchyard_lane_unacknowledged_messages", "gauge", "messages", ("kind",),
         "messages that a worker was handed and has not answered, in all lanes of a kind", PROJECTOR),
    # Each projector
    Spec("switchyard_speaks_for_all", "gauge", "1", (),
         "1 where this projector exports what concerns the whole system, 0 where another does", PROJECTOR),
    Spec("switchyard_projection_lag_events", "gauge", "events", (),
         "events that this host's read model is behind the log", PROJECTOR),
    Spec("switchyard_disk_free_bytes", "gauge", "bytes", (),
         "free bytes of the disk with the data directory", PROJECTOR),
    # Each gateway
    Spec("switchyard_http_requests", "counter", "requests", ("method", "route", "status"),
         "requests answered, by the route's pattern", GATEWAY),
    Spec("switchyard_http_request_seconds", "histogram", "seconds", ("method", "route"),
         "time to answer; without live updates, which last as long as their client likes", GATEWAY, QUICK_S),
    Spec("switchyard_submit_seconds", "histogram", "seconds", (),
         "time from a submission's body to its acknowledged event", GATEWAY, QUICK_S),
    Spec("switchyard_bulk_lines", "counter", "lines", ("status",),
         "lines of bulk submissions answered", GATEWAY),
    Spec("switchyard_live_connections", "gauge", "connections", (),
         "open WebSockets and event streams", GATEWAY),
    Spec("switchyard_live_lag_events", "gauge", "events", (),
         "events that the live feed is behind the log; 0 while nobody needs it", GATEWAY),
    Spec("switchyard_damaged_jobs", "gauge", "jobs", (),
         "jobs that cannot be read, in the read model that this gateway reads; a sum over gateways counts "
         "them again", GATEWAY),
    # Each keeper
    Spec("switchyard_repaired", "counter", "things", ("what",),
         "what the sweep found that should not be, and set right", KEEPER),
    # Each worker on NATS; one over REST exports nothing
    Spec("switchyard_slots", "gauge", "slots", ("state",),
         "slots of this worker: `running`, `free`, or `lost` to code that outlived its attempt", WORKER),
    Spec("switchyard_model_switches", "counter", "switches", ("connector",),
         "checkpoints that a connector's back end loaded in place of another", WORKER),
    # Each pusher
    Spec("switchyard_server_checks", "counter", "checks", ("outcome",),
         "health checks of prediction servers that this pusher made, by what they came to", PUSHER),
    Spec("switchyard_server_check_seconds", "histogram", "seconds", (),
         "time that a health check took", PUSHER, QUICK_S),
    Spec("switchyard_pushes", "counter", "pushes", ("outcome",),
         "jobs that this pusher posted to prediction servers, by what that came to: `succeeded`, `failed`, "
         "`accepted` by a server that calls back, `full`, or what the server did wrong", PUSHER),
    Spec("switchyard_push_seconds", "histogram", "seconds", (),
         "time from a job that was found until its push had ended", PUSHER, LONG_S),
    Spec("switchyard_pushes_running", "gauge", "pushes", (),
         "pushes of this pusher that wait for an answer", PUSHER),
    Spec("switchyard_servers", "gauge", "servers", ("state",),
         "registered prediction servers: `new`, `online`, `shaky`, `offline`, `stale`, `maintenance` or "
         "`disabled`; every pusher shows all of them", PUSHER),
    # Each process
    Spec("switchyard_build", "info", "1", ("version", "python"), "what runs", PROCESS),
    Spec("switchyard_loop_delay_seconds", "histogram", "seconds", (),
         "by how much a timer of the event loop fires late, looked at four times a second", PROCESS, QUICK_S),
    Spec("switchyard_loop_stuck_seconds", "gauge", "seconds", (),
         "for how long the event loop has done nothing it should have done, now", PROCESS),
    Spec("switchyard_clock_offset_seconds", "gauge", "seconds", (),
         "how far this host's clock is ahead of the broker's, which counts", PROCESS),
)  # fmt: skip

BY_NAME: Final = {spec.name: spec for spec in SPECS}
