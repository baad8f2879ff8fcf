"""What is wrong with settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from switchyard.events.errors import SwitchyardError

SHOWN: Final = 20  # of faults; a file that is no file of settings could have any number of them


class SettingsError(SwitchyardError):
    """Settings cannot be used; the message names each with its place and the rule that it breaks.

    Args:
        faults: one sentence each, without a value that may be secret.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = len(faults) - SHOWN
        lines = [*faults[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
        super().__init__(lines[0] if len(lines) == 1 else "\n- ".join(["settings cannot be used:", *lines]))
