"""The codes of refusals that the event core gives; they are part of the API and never change."""

from __future__ import annotations

from enum import StrEnum


class RefusalCode(StrEnum):
    """Why a command was rejected, as a word for programs."""

    ILLEGAL_TRANSITION = "illegal_transition"
    """The job's state does not allow it."""
    LEASE_LOST = "lease_lost"
    """The fence is that of an earlier lease."""
    NOT_TIMED = "not_timed"
    """The lease is held by a worker, and no claim prolongs it."""
    REVIEW_CLAIMED = "review_claimed"
    """Somebody else has claimed the review."""
    FOUR_EYES = "four_eyes"
    """Whoever proposed a result may not accept it."""
    DAMAGED = "damaged"
    """An event of the job cannot be read."""
    NOT_DAMAGED = "not_damaged"
    """A whole job is not repaired."""
    NOTHING_TO_REPAIR = "nothing_to_repair"
    """Not even the job's first event can be read."""
    ILLEGAL_REPAIR = "illegal_repair"
    """A damaged job cannot be given that state."""
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    UNRESOLVED_REFERENCE = "unresolved_reference"
    TOO_OFTEN = "too_often"
    DELEGATED = "delegated"
    """Another back end has the attempt, or this one calls it by another name."""
    NOT_DELEGATED = "not_delegated"
    """The attempt is not with that back end."""
    PARTED_BEFORE = "parted_before"
    """The job has ended in parts already; its next attempt joins them."""
    TOO_DEEP = "too_deep"
    """The job is a part of a part of … too many."""
    NO_PARTS = "no_parts"
    TOO_MANY_PARTS = "too_many_parts"
    INVALID_PART = "invalid_part"
