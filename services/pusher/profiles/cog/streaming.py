"""A prediction as a stream of events, as models have it that are marked for streaming.

| event | data |
|---|---|
| start | `id`, `status` |
| output | `chunk`, `index` |
| log | `source`, `data`: some of what it prints |
| metric | `name`, `value`, `mode` |
| completed | the whole prediction |
| error | the reader was too slow, and has lost some: the end is not known |
"""

from __future__ import annotations

from typing import Any, Final

import aiohttp

from switchyard.events.errors import RejectedError
from switchyard.events.values import JobError
from switchyard.services.dispatch.push.cog import ANSWER_INVALID, prediction_id, progress_in, report_of
from switchyard.services.dispatch.push.report import Report, Running, body_of
from switchyard.services.outbound.sse import EventReader, ServerEvent, StreamFaultError, StreamTooLargeError
from switchyard.services.pusher.calling import Answer, Broken, Reading, Said, shown
from switchyard.services.pusher.profiles.protocol import Ref
from switchyard.services.records.servers.condition import Outcome

STREAM_TIMES: Final = 4
"""How many times the largest answer a stream may have: its end repeats all that came before."""


class _Stream:
    """What has come of one stream.

    Args:
        ref: the attempt.
        reading: takes what is shown of it.
    """

    def __init__(self, ref: Ref, reading: Reading) -> None:
        self._ref = ref
        self._reading = reading
        self._logs = ""

    def take(self, event: ServerEvent) -> Report | None:
        """What an event says; None until the last.

        Raises:
            RejectedError: it is no JSON object that can be kept.
            ValueError: it is about another prediction, or says nothing that is known.
        """
        match event.name:
            case "output":
                chunk = body_of(event.data.encode()).get("chunk")
                if isinstance(chunk, str) and not chunk.startswith("data:"):
                    self._reading.news.text(chunk)
            case "log":
                data = body_of(event.data.encode()).get("data")
                if isinstance(data, str):
                    self._log(data)
            case "completed":
                return self._completed(body_of(event.data.encode()))
            case "error":
                raise ValueError("the server says that events were lost")
            case _:
                pass  # `start`, and `metric`, which `completed` repeats
        return None

    def _log(self, data: str) -> None:
        news = self._reading.news
        self._logs = (self._logs + data)[-400:]
        for line in data.splitlines():
            news.line(line)
        if (progress := progress_in(self._logs)) is not None:
            news.progress(progress)

    def _completed(self, body: dict[str, Any]) -> Report:
        if body.get("id") != prediction_id(self._ref.job, self._ref.fence):
            raise ValueError("the end of another prediction")
        found = report_of(body, self._ref.job, self._ref.fence)
        if found is None or isinstance(found, Running):
            raise ValueError("an end without a status that is one")
        return found


async def streamed(ref: Ref, answer: aiohttp.ClientResponse, reading: Reading) -> Answer:
    """Read a stream to its end, and show what comes; what stops before its end is not known."""
    most_bytes = reading.files_bytes
    reader = EventReader(most_bytes=most_bytes, total_bytes=STREAM_TIMES * most_bytes)
    stream = _Stream(ref, reading)
    try:
        async for piece in answer.content.iter_any():
            for event in reader.feed(piece):
                if (found := stream.take(event)) is not None:
                    answer.close()
                    return Said(found, prediction_id(ref.job, ref.fence))
    except StreamTooLargeError as error:
        answer.close()
        return Broken(JobError("answer_too_large", str(error)), Outcome.TOO_LARGE, answer.status)
    except (StreamFaultError, RejectedError, ValueError) as error:
        answer.close()
        message = f"its stream cannot be used: {shown(str(error), reading.hidden)}"
        return Broken(JobError(ANSWER_INVALID, message), Outcome.NOT_JSON, answer.status)
    raise aiohttp.ClientPayloadError("the stream ended before the prediction")
