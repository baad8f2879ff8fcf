"""How a server fares: what its checks and heartbeats come to. Pure; times and jitter are given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from switchyard.services.records.servers.record import Server

SHOWN: Final = 10
"""Checks that are remembered."""
SHAKY: Final = 5
"""How many checks in a row have to pass after a failure, before a server is no longer shaky."""
OFFLINE: Final = 3
"""Failures in a row that make a server offline."""
SMOOTHING: Final = 0.3
RECENT_S: Final = 300.0
"""Within which every server that can be checked has been, so long as anybody checks at all."""
MAX_COUNT: Final = 1_000_000

Time = Annotated[datetime, Meta(tz=True)]
Condition = Literal["online", "shaky", "offline"]
Shown = Literal["new", "online", "shaky", "offline", "stale"]


class Rhythm(NamedTuple):
    """How often servers are checked.

    Args:
        shortest_s: between two checks of a new or shaky server.
        longest_s: between two checks of a stable one, or of one that has long been offline.
        check_s: within which a check has to be answered whole.
    """

    shortest_s: float = 10.0
    longest_s: float = 60.0
    check_s: float = 5.0

    @property
    def claim_s(self) -> float:
        """How long whoever claims a check has for it, before another may make it."""
        return 3 * self.check_s


class Outcome(StrEnum):
    """What a check came to. Nothing of what a server answers is kept beside its status."""

    PASSED = "passed"
    TIMEOUT = "timeout"
    REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    CLOSED = "connection_closed"
    NAME = "name_not_resolved"
    ADDRESS = "address_not_allowed"
    TLS = "tls_failed"
    REDIRECT = "redirect"
    STATUS = "status"
    TOO_LARGE = "answer_too_large"
    NOT_HTTP = "answer_not_http"
    HTML = "answer_is_a_page"
    NOT_JSON = "answer_not_json"
    CREDENTIALS = "credentials_unreadable"
    NOT_READY = "not_ready"
    UNWELL = "unwell"
    PROFILE = "profile_unknown"
    REPORTED = "reported"


MEANINGS: Final = {
    Outcome.PASSED: "it answered as it should",
    Outcome.TIMEOUT: "it did not answer whole in time",
    Outcome.REFUSED: "nobody listens at its address",
    Outcome.UNREACHABLE: "its address cannot be reached",
    Outcome.CLOSED: "it closed the connection before it had answered",
    Outcome.NAME: "its host name cannot be resolved",
    Outcome.ADDRESS: "its address is not one that may be called",
    Outcome.TLS: "its certificate is not valid, or it speaks no TLS",
    Outcome.REDIRECT: "it redirects, which is not followed",
    Outcome.STATUS: "it answered with this status",
    Outcome.TOO_LARGE: "its answer is too large",
    Outcome.NOT_HTTP: "its answer is no HTTP",
    Outcome.HTML: "it answered with a web page",
    Outcome.NOT_JSON: "its answer is no JSON that can be kept",
    Outcome.CREDENTIALS: "its credentials cannot be read with the keys that are here",
    Outcome.NOT_READY: "it says that it is not ready yet",
    Outcome.UNWELL: "it says that it is not well",
    Outcome.PROFILE: "its profile or an option is not known to this version",
    Outcome.REPORTED: "it says itself that it lives",
}


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One check.

    Args:
        at: when it ended.
        outcome: what it came to.
        latency_s: how long it took.
        status: that of the answer, where one came.
        push: whether it was a push of a job that failed, and no check.
    """

    at: Time
    outcome: Outcome
    latency_s: float = 0.0
    status: int | None = None
    push: bool = False

    @property
    def passed(self) -> bool:
        """Whether the server lives."""
        return self.outcome in (Outcome.PASSED, Outcome.REPORTED)


class ServerState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a server.

    Args:
        generation: that of the record that it is about.
        condition: offline until a check has passed.
        since: when it came into that condition.
        due_at: when it is to be checked next.
        heartbeat_at: when it last showed that it lives.
        checked_at: when it was last checked.
        passes: checks that passed in a row.
        failures: checks that failed in a row.
        latency_s: that of its checks, smoothed.
        recent: the last checks, the newest first.
        claimed_by: who is checking it; empty when nobody is.
        claimed_until: until when that one has time for it.
        held_for: why pushers give it nothing though it is well, as the last of them that had a reason says.
        held_until: until when.
        abilities: capabilities that its checks found.
    """

    generation: str
    condition: Condition = "offline"
    since: Time
    due_at: Time
    heartbeat_at: Time | None = None
    checked_at: Time | None = None
    passes: int = 0
    failures: int = 0
    latency_s: float | None = None
    recent: tuple[Check, ...] = ()
    claimed_by: str = ""
    claimed_until: Time | None = None
    held_for: str = ""
    held_until: Time | None = None
    abilities: dict[str, Any] = {}


RESTING: Final = "resting"
BREAKER: Final = "breaker_open"
LONGEST_HELD_S: Final = 600.0


def first(server: Server, now: datetime) -> ServerState:
    """A server of which nothing is known yet; it is to be checked at once."""
    return ServerState(generation=server.generation, since=now, due_at=now)


def of(server: Server, state: ServerState | None) -> ServerState | None:
    """A state, if it is about this registration and not about an earlier one."""
    return state if state is not None and state.generation == server.generation else None


def capabilities(server: Server, state: ServerState | None) -> dict[str, Any]:
    """What jobs can require of a server: what its owner declares, and beside that what its checks found."""
    known = of(server, state)
    return server.capabilities if known is None else {**known.abilities, **server.capabilities}


def is_due(state: ServerState, now: datetime, rhythm: Rhythm) -> bool:
    """Whether somebody has to check a server now.

    A time further ahead than any that is ever set comes from a clock that was wrong, and does not count.
    """
    until = state.claimed_until
    if state.claimed_by and until is not None:
        return not now < until <= now + timedelta(seconds=2 * rhythm.claim_s)
    furthest = now + timedelta(seconds=2 * rhythm.longest_s)
    return not now < state.due_at <= furthest


def claimed(state: ServerState, by: str, now: datetime, rhythm: Rhythm) -> ServerState:
    """A server that somebody is checking."""
    until = now + timedelta(seconds=rhythm.claim_s)
    return msgspec.structs.replace(state, claimed_by=by, claimed_until=until)


def after_check(
    state: ServerState,
    check: Check,
    rhythm: Rhythm,
    jitter: float,
    abilities: dict[str, Any] | None = None,
) -> ServerState:
    """What a check, or a push that failed or passed, makes of a state.

    Args:
        state: as it was.
        check: what was found.
        rhythm: when the next one is due.
        jitter: 0 to 1, drawn for each check, which keeps many servers apart.
        abilities: capabilities that it found; None where those that are known stand.
    """
    failures = 0 if check.passed else min(MAX_COUNT, state.failures + 1)
    passes = min(MAX_COUNT, state.passes + 1) if check.passed else 0
    recent = (check, *state.recent)[:SHOWN]
    condition = _condition(state.condition, failures, recent)
    latency_s = state.latency_s
    if check.outcome is Outcome.PASSED:
        latency_s = check.latency_s if latency_s is None else _smooth(latency_s, check.latency_s)
    wait_s = interval_s(passes, failures, rhythm) * (0.9 + 0.2 * jitter)
    return ServerState(
        generation=state.generation, condition=condition,
        since=state.since if condition == state.condition else check.at,
        due_at=check.at + timedelta(seconds=wait_s),
        heartbeat_at=check.at if check.passed else state.heartbeat_at, checked_at=check.at, passes=passes,
        failures=failures, latency_s=latency_s, recent=recent, held_for=state.held_for,
        held_until=state.held_until, abilities=state.abilities if abilities is None else abilities,
    )  # fmt: skip


def held(state: ServerState, why: str, until: datetime) -> ServerState:
    """A server that is given nothing for a while; a longer wait that is known stands."""
    if state.held_until is not None and state.held_until >= until:
        return state
    return msgspec.structs.replace(state, held_for=why, held_until=until)


def held_now(state: ServerState | None, now: datetime) -> tuple[str, datetime] | None:
    """Why a server is given nothing for now, and until when; None where nothing is known of that.

    A time further ahead than any that is ever set comes from a clock that was wrong, and does not count.
    """
    until = None if state is None else state.held_until
    if state is None or until is None or not now < until <= now + timedelta(seconds=LONGEST_HELD_S):
        return None
    return state.held_for, until


def after_heartbeat(state: ServerState, server: Server, now: datetime) -> ServerState:
    """What it makes of a state that a server says itself that it lives.

    One that can be checked is checked at once if it seemed not to be well; another one is online.
    """
    if server.endpoints.health is not None:
        due_at = state.due_at if state.condition == "online" else min(now, state.due_at)
        return msgspec.structs.replace(state, heartbeat_at=now, due_at=due_at)
    return msgspec.structs.replace(
        state, heartbeat_at=now, condition="online", failures=0,
        since=state.since if state.condition == "online" else now,
    )  # fmt: skip


def interval_s(passes: int, failures: int, rhythm: Rhythm) -> float:
    """Seconds until the next check: few while a server is new, shaky or just gone, then more and more."""
    steps = (failures - OFFLINE) // SHAKY if failures else passes // SHAKY
    return float(min(rhythm.longest_s, rhythm.shortest_s * 2.0 ** min(max(0, steps), 16)))


def shown(server: Server, state: ServerState | None, now: datetime, stale_s: float) -> Shown:
    """The condition as people see it: stale after a long silence, new where nothing is known yet."""
    known = of(server, state)
    if known is None or (known.heartbeat_at is None and not known.failures):
        return "new"
    if known.condition == "offline":
        return "offline"
    return "stale" if is_stale(known, now, stale_s) else known.condition


def is_stale(state: ServerState, now: datetime, stale_s: float) -> bool:
    """Whether there was no heartbeat for so many seconds."""
    since = state.heartbeat_at or state.since
    return now - since > timedelta(seconds=stale_s)


def takes_jobs(server: Server, state: ServerState | None, now: datetime, stale_s: float) -> bool:
    """Whether jobs may be pushed to a server now."""
    if not server.enabled or server.maintenance:
        return False
    return shown(server, state, now, stale_s) in ("online", "shaky")


def is_dead(server: Server, state: ServerState | None, now: datetime, stale_s: float) -> bool:
    """Whether what a server has been given is lost: it was found offline by a check, not by pushes alone.

    A server that nobody checks is dead when it has long been silent.
    """
    known = of(server, state)
    if known is None or not server.enabled:
        return False
    if server.endpoints.health is None:
        return is_stale(known, now, stale_s)
    last = next((check for check in known.recent if not check.push), None)
    return known.failures >= OFFLINE and last is not None and not last.passed


def is_abandoned(server: Server, state: ServerState | None, now: datetime, stale_s: float) -> bool:
    """Whether a server may be removed: it is in use, and was found dead for so long, or has long been silent.

    That nobody checks is not its fault: one that can be checked has to have failed after its last heartbeat.
    """
    known = of(server, state)
    if not server.enabled or server.maintenance:
        return False
    if known is None:
        return server.endpoints.health is None and now - server.updated_at > timedelta(seconds=stale_s)
    if not is_stale(known, now, stale_s):
        return False
    if server.endpoints.health is None:
        return True
    checked = known.checked_at
    recently = checked is not None and now - checked <= timedelta(seconds=max(stale_s, RECENT_S))
    return known.condition == "offline" and known.failures >= OFFLINE and recently


def _condition(before: Condition, failures: int, recent: Iterable[Check]) -> Condition:
    if failures >= OFFLINE or (failures and before == "offline"):
        return "offline"
    lately = list(recent)[:SHAKY]
    return "online" if all(check.passed for check in lately) else "shaky"


def _smooth(known: float, new: float) -> float:
    return known + SMOOTHING * (new - known)
