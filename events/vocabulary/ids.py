"""The types of ids and sequences, which are all strings and integers and must not be mixed up.

They cost nothing at run time. A value becomes one where it enters: from the broker's answer, a subject, a
request's path, a token.
"""

from __future__ import annotations

from typing import NewType

JobId = NewType("JobId", str)
"""A lowercase UUID (`switchyard.events.subjects.JOB_ID`)."""

LaneId = NewType("LaneId", str)
"""What `switchyard.events.lane.lane_id` makes of a lane's key."""

WorkerId = NewType("WorkerId", str)
"""The name under which a worker registers, of its own choice."""

Seq = NewType("Seq", int)
"""The place of a message in its stream, by default the log `JOBS`; 0 stands for none."""

Fence = NewType("Fence", int)
"""The sequence of the event that granted a lease, which every later write of its holder names."""

Revision = NewType("Revision", int)
"""The version of what a worker declares; counted from 1, 0 for none."""
