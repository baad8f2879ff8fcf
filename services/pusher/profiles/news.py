"""What is heard of an attempt while its server answers: progress, log lines, text as it is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from switchyard.events import outcome
from switchyard.events.job import Job
from switchyard.services.dispatch.log_lines import LogLines
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.settings import Settings

TEXT_CHARS: Final = 2_000
TEXT_S: Final = 0.25
"""Text without line ends is shown in pieces: of so many characters, or what came in so long."""


class News:
    """Passes on what is heard, within the limits that workers have too. Nothing here ever waits.

    Args:
        reporter: the pusher's.
        job: under the lease of the attempt.
        settings: limits.
        clock: seconds that only go forward.
    """

    def __init__(
        self, reporter: Reporter, job: Job, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reporter = reporter
        self._job = job
        self._clock = clock
        self._stamp = {
            "fence": job.lease.fence if job.lease else 0, "attempt": job.attempt, "tenant": job.tenant,
            "kind": job.kind, **({"parent": job.parent} if job.parent else {}),
        }  # fmt: skip
        self._settings = settings
        self._lines: LogLines | None = None
        self._text = ""
        self._place = 0
        self._saying: str | None = None
        self._shown_s = clock()

    def progress(self, report: dict[str, Any]) -> None:
        """Show how far the attempt is, as `events.outcome.progress_of` has it; the last one counts."""
        silent = {"stage": "", "message": ""} if self._job.erasable else {}
        self._reporter.progress(self._job.id, {**report, **silent, **self._stamp})

    def line(self, line: str) -> None:
        """Keep a line of output, cut; too many are left out, and counted; none is kept of an erasable job."""
        if self._job.erasable:
            return
        if self._lines is None:  # made when first used: it refers back here, and is dropped at the end
            settings = self._settings
            self._lines = LogLines(
                self._log,
                most=settings.job_log_lines,
                per_s=settings.job_log_lines_per_s,
                most_bytes=settings.job_log_bytes,
            )
        self._lines.log(outcome.line_of(outcome.text_of(line, 4 * outcome.LINE_CHARS)))

    def _log(self, line: str, always: bool) -> bool:  # noqa: FBT001 - as `LogLines` says it
        said = {"line": line, **self._stamp}
        if not always and line == self._saying:
            said["text_at"] = self._place
        return self._reporter.log(self._job.id, said, always=always)

    def text(self, piece: str) -> None:
        """Show text as it is made: whole lines, and what is longer or waits for its end in pieces."""
        *lines, self._text = (self._text + piece).split("\n")
        for line in lines:
            self.line(line)
        now_s = self._clock()
        if lines:
            self._shown_s = now_s
        self._show_pieces(now_s, self.line)

    def tokens(self, piece: str) -> None:
        """Show text as it is made, line ends included: all that is shown, joined, is the text.

        Each piece says at which of the text's characters it begins, so a reader notices what was left out.
        """
        self._text += piece
        self._show_pieces(self._clock(), self._say)

    def _say(self, piece: str) -> None:
        self._saying = piece
        self.line(piece)
        self._saying = None
        self._place += len(piece)

    def _show_pieces(self, now_s: float, show: Callable[[str], None]) -> None:
        while len(self._text) >= TEXT_CHARS:
            show(self._text[:TEXT_CHARS])
            self._text, self._shown_s = self._text[TEXT_CHARS:], now_s
        if self._text and now_s - self._shown_s >= TEXT_S:
            show(self._text)
            self._text, self._shown_s = "", now_s

    def close(self) -> None:
        """Show what is left of the text, and how many lines were left out; progress comes too late now."""
        if self._text:
            self.line(self._text)
            self._text = ""
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        self._reporter.forget(self._job.id)
