"""What the broker's refusals of a publish mean here, by their `err_code`.

Source: `server/errors.json` of nats-server 2.15.1, of which everything was looked through that a publish may
be answered with. What is not named here is a fault of the message or of the stream's configuration, and
another try mends nothing: 10054 a message that is too large, 10097 its headers, 10060 and 10063 another
stream or sequence than expected, 10109 a sealed stream, 10165 and 10166 its TTL, 10188 to 10192,
10203, 10212 and 10223 its schedule.
"""

from __future__ import annotations

from typing import Final

WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""Somebody wrote first."""

IN_PROCESS: Final = 10158
"""Replicas are storing a message with the same id. Whether they will have it is not known yet: wait, look."""

NO_ROOM: Final = frozenset({10002, 10023, 10028, 10047, 10053, 10076, 10077, 10122})
"""A limit of the account, the server's resources, its memory, its disk, a limit of the stream; JetStream is
off (the server does that when its disk is full); the stream's store refused; the stream's bytes."""

NOT_NOW: Final = frozenset(
    {10008, 10009, 10039, 10041, 10051, 10059, 10118, 10124, 10163, 10167, 10194, 10226}
)
"""No leader, or not the leader; the account is not there yet; the replicas cannot agree; the stream failed,
is not there, is offline, is moved; the guard cannot be checked yet; too many requests; offline with a reason;
another change of the stream is under way. Nothing was stored."""

BUSY: Final = frozenset({429, 503})
"""The status of codes that other versions have for the same."""
