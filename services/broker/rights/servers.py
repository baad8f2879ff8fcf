"""What the parts that run beside the broker may do."""

from __future__ import annotations

from typing import Final

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api_subject, pull_subject
from switchyard.services.broker.rights.grants import (
    ALL_EVENTS,
    CANCELS,
    EVERYBODY,
    INTO_LANES,
    KEEPERS,
    PAUSES,
    Right,
    Rights,
    delete,
    events,
    files,
    follow,
    keepers_info,
    kv,
    lanes,
    output,
    places,
    purge,
    put,
    read,
    streams,
    write,
)


def topology() -> Rights:
    """Who lays out the streams: it alone makes any."""
    made = [
        Right(api_subject(f"{call}.{name}"), f"make {name} as it is declared")
        for name in streams()
        for call in ("STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE")
    ]
    consumers = [
        Right(api_subject(f"CONSUMER.{call}.{stream}.{name}"), f"make the consumer {name}")
        for name, stream in KEEPERS.items()
        for call in ("INFO", "CREATE")
    ]
    return Rights((*EVERYBODY, *made, *consumers), ())


_GATEWAY_FOLLOWS: Final = (
    subjects.JOBS,
    subjects.LOGS,
    subjects.PROGRESS,
    subjects.LEDGER,
    subjects.FILES,
    *map(
        kv,
        (
            subjects.BUCKET_WORKERS,
            subjects.BUCKET_CAPABILITIES,
            subjects.BUCKET_LANES,
            subjects.BUCKET_LIMITS,
            subjects.BUCKET_KEYS,
            subjects.BUCKET_CONTROLS,
            subjects.BUCKET_KINDS,
            subjects.BUCKET_SERVERS,
            subjects.BUCKET_SERVER_STATES,
            subjects.BUCKET_MODELS,
            subjects.BUCKET_MODEL_FETCHES,
            subjects.BUCKET_SCHEDULES,
            subjects.BUCKET_CLAIMS,
            subjects.BUCKET_OCTOPOID,
            subjects.BUCKET_WORKFLOWS,
            subjects.BUCKET_BATCHES,
            subjects.BUCKET_BATCH_REFUSALS,
            subjects.BUCKET_PRICES,
            subjects.BUCKET_QUOTAS,
            subjects.BUCKET_UPLOADS,
            subjects.BUCKET_BACKENDS,
            subjects.BUCKET_ERASURES,
        ),
    ),
)
_GATEWAY_WRITES: Final = (
    subjects.BUCKET_WORKERS,
    subjects.BUCKET_CAPABILITIES,
    subjects.BUCKET_LANES,
    subjects.BUCKET_LIMITS,
    subjects.BUCKET_KEYS,
    subjects.BUCKET_TICKETS,
    subjects.BUCKET_CONTROLS,
    subjects.BUCKET_KINDS,
    subjects.BUCKET_WAITS,
    subjects.BUCKET_SERVERS,
    subjects.BUCKET_SERVER_STATES,
    subjects.BUCKET_MODELS,
    subjects.BUCKET_MODEL_FETCHES,
    subjects.BUCKET_SCHEDULES,
    subjects.BUCKET_CLAIMS,
    subjects.BUCKET_OCTOPOID,
    subjects.BUCKET_BACKENDS,
    subjects.BUCKET_WORKFLOWS,
    subjects.BUCKET_BATCHES,
    subjects.BUCKET_BATCH_REFUSALS,
    subjects.BUCKET_PRICES,
    subjects.BUCKET_QUOTAS,
    subjects.BUCKET_UPLOADS,
    subjects.BUCKET_ERASURES,
)


def gateway() -> Rights:
    """Whoever speaks HTTP."""
    others = [name for name in streams() if name not in _GATEWAY_FOLLOWS]
    publish = [
        *EVERYBODY,
        *follow(*_GATEWAY_FOLLOWS),
        *read(*others),
        Right(api_subject("STREAM.NAMES"), "whether all streams are there"),
        Right(api_subject("STREAM.LIST"), "how full each stream is"),
        Right(
            api_subject(f"STREAM.CREATE.{subjects.PREVIEWS}"), "make it again after a restart of the broker"
        ),
        *events(ALL_EVENTS, INTO_LANES),
        *output(),
        *files(),
        *write(*_GATEWAY_WRITES),
        *purge(
            subjects.QUARANTINE,
            subjects.LOGS,
            subjects.PROGRESS,
            subjects.PREVIEWS,
            kv(subjects.BUCKET_WAITS),
            kv(subjects.BUCKET_OCTOPOID),
        ),
        *delete(kv(subjects.BUCKET_FILE_KEYS)),
        *lanes(),
        Right(api_subject(f"CONSUMER.PAUSE.{subjects.WORK}.*"), "pause lanes"),
        *places(),
        *keepers_info(),
        put("offer.*.*", "pass jobs on to workers"),
        put(subjects.ALL_FILE_QUOTAS, "share what is reserved with other gateways"),
    ]
    subscribe = [
        PAUSES,
        CANCELS,
        Right(subjects.ALL_PROGRESS, "live updates"),
        Right("preview.*", "live previews"),
        Right(subjects.projected("*"), "hear how far a read model is"),
        Right(subjects.MODEL_REPORTS, "hear what workers fetch, and answer"),
        Right(subjects.ALL_FILE_QUOTAS, "hear who needs room for files, and answer"),
        Right(subjects.ALL_FILE_ADDRESSES, "hear who needs addresses in S3, and answer"),
    ]
    return Rights(tuple(publish), tuple(subscribe))


def projector() -> Rights:
    """Who keeps a read model."""
    publish = [
        *EVERYBODY,
        *follow(
            subjects.JOBS,
            subjects.LEDGER,
            subjects.FILES,
            *map(
                kv,
                (
                    subjects.BUCKET_WORKERS,
                    subjects.BUCKET_CAPABILITIES,
                    subjects.BUCKET_LANES,
                    subjects.BUCKET_PRICES,
                ),
            ),
        ),
        *read(subjects.QUARANTINE),
        Right(api_subject("STREAM.LIST"), "how full each stream is"),
        Right(api_subject(f"CONSUMER.LIST.{subjects.WORK}"), "how much waits in each lane"),
        *keepers_info(),
        put(subjects.projected("*"), "say how far its read model is"),
        put(subjects.SPEAKERS, "find out which projector speaks"),
    ]
    subscribe = [
        Right(subjects.rebuild("*"), "hear that it is to rebuild, and answer"),
        Right(subjects.SPEAKERS, "find out which projector speaks"),
    ]
    return Rights(tuple(publish), tuple(subscribe))


def keeper() -> Rights:
    """Who keeps timers, leases, lanes and the ledger."""
    durable = [
        right
        for name, stream in KEEPERS.items()
        for right in (
            Right(api_subject(f"CONSUMER.INFO.{stream}.{name}"), f"how far {name} is"),
            Right(
                api_subject(f"CONSUMER.CREATE.{stream}.{name}"), f"make {name} again where the broker lost it"
            ),
            Right(pull_subject(stream, name), f"take what {name} gives out", answers=True),
            Right(f"$JS.ACK.{stream}.{name}.>", f"say what became of it, to {name}"),
        )
    ]
    publish = [
        *EVERYBODY,
        *follow(
            *map(
                kv,
                (
                    subjects.BUCKET_WORKERS,
                    subjects.BUCKET_CAPABILITIES,
                    subjects.BUCKET_LANES,
                    subjects.BUCKET_LIMITS,
                    subjects.BUCKET_CONTROLS,
                    subjects.BUCKET_KINDS,
                    subjects.BUCKET_BATCHES,
                    subjects.BUCKET_BATCH_REFUSALS,
                    subjects.BUCKET_PRICES,
                    subjects.BUCKET_QUOTAS,
                    subjects.BUCKET_WORKFLOWS,
                    subjects.BUCKET_SERVERS,
                    subjects.BUCKET_BACKENDS,
                    subjects.BUCKET_KEYS,
                    subjects.BUCKET_ERASURES,
                    subjects.BUCKET_UPLOADS,
                ),
            )
        ),
        *read(
            subjects.JOBS,
            subjects.TIMERS,
            subjects.LEDGER,
            subjects.LOGS,
            subjects.PROGRESS,
            subjects.QUARANTINE,
            kv(subjects.BUCKET_WAITS),
            subjects.SCHEDULES,
        ),
        *durable,
        *events(ALL_EVENTS, INTO_LANES),
        *files(),
        *write(
            subjects.BUCKET_LANES,
            subjects.BUCKET_WAITS,
            subjects.BUCKET_SCHEDULES,
            subjects.BUCKET_BATCHES,
            subjects.BUCKET_BATCH_REFUSALS,
            subjects.BUCKET_BACKENDS,
            subjects.BUCKET_ERASURES,
            subjects.BUCKET_UPLOADS,
        ),
        *purge(
            subjects.JOBS,
            subjects.LOGS,
            subjects.PROGRESS,
            subjects.PREVIEWS,
            subjects.TIMERS,
            subjects.WORK,
            subjects.QUARANTINE,
            kv(subjects.BUCKET_WAITS),
        ),
        *delete(subjects.TIMERS, kv(subjects.BUCKET_FILE_KEYS)),
        *lanes(),
        Right(api_subject(f"CONSUMER.NAMES.{subjects.WORK}"), "find lanes that nobody needs"),
        Right(api_subject(f"CONSUMER.DELETE.{subjects.WORK}.*"), "remove lanes that nobody needs"),
        Right(api_subject(f"CONSUMER.PAUSE.{subjects.WORK}.*"), "pause new lanes of what is paused"),
        Right(
            api_subject(f"STREAM.LEADER.STEPDOWN.{subjects.WORK}"),
            "have a source that is stalled begin again",
        ),
        *places(),
        Right(api_subject(f"CONSUMER.NAMES.{subjects.TOKENS}"), "find limits that are gone"),
        put("timer.set.>", "set wake-ups"),
        put("ledger.>", "write the ledger"),
        put(subjects.ALL_FILE_QUOTAS, "ask for room for files"),
    ]
    ends = ("succeeded", "accepted", "dead", "cancelled", "expired", "archived")
    return Rights(tuple(publish), tuple(Right(f"job.*.{end}", "hear of jobs that end") for end in ends))
