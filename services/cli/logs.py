"""What the command line says of logs, until a command that logs is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Logging:
    """How a command is to log.

    Args:
        level: the least important thing that is logged.
        as_json: one JSON object a line; None where the command line does not say.
    """

    level: str
    as_json: bool | None

    def set_up(self) -> None:
        """Log like this from now on."""
        from switchyard.services.log import configure  # noqa: PLC0415 - the bare install cannot log

        configure(level=self.level, as_json=self.as_json)
