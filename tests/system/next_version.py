"""`python -m tests.system.next_version` is `switchyard` of a later version, with an event more."""

from __future__ import annotations

from switchyard.events import events


class Praised(events.ReviewReleased, frozen=True, kw_only=True):
    """Somebody liked it; nothing follows from that."""

    cause: str = "praised"
    mood: str


events.EVENTS["praised"] = Praised  # type: ignore[index]
events.NAMES[Praised] = "praised"  # type: ignore[index]

if __name__ == "__main__":
    # What is imported from here on makes its tables of the events that there are now.
    from switchyard.services.cli import main

    main()
