"""A chat completion put together from the chunks of a stream: the object that an answer without stream is."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from switchyard.events.errors import RejectedError
from switchyard.services.dispatch.push.report import body_of

CHOICES: Final = 128
CALLS: Final = 128
_SAME: Final = frozenset({"role", "id", "type", "index", "name"})
"""Parts of a delta that are said once, or again as they are; other strings are continued."""


class ChunkError(Exception):
    """A chunk is none; the message says what it is."""


class TooMuchError(ChunkError):
    """There is more of an answer than may be kept."""


class SaidError(Exception):
    """The server says in the stream that it has failed.

    Args:
        error: as it says it.
    """

    def __init__(self, error: Any) -> None:
        super().__init__("the server says in the stream that it failed")
        self.error = error


class Completion:
    """What has come of an answer so far.

    Args:
        most_bytes: the size of all that is kept of it, at most.
        wanted: how many choices were asked for.
    """

    def __init__(self, most_bytes: int, wanted: int = 1) -> None:
        self._wanted = wanted
        self._left_bytes = self._most_bytes = most_bytes
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.usage: dict[str, Any] | None = None
        self.chunks = 0
        self.is_ended = False
        """Whether the stream has said that nothing more comes."""

    def take(self, data: str) -> str:
        """Take the data of an event; the text that it adds to the first choice.

        Raises:
            ChunkError: it is no chunk, or there is too much.
            SaidError: it is an error.
        """
        try:
            chunk = body_of(data.encode())
        except RejectedError as error:
            raise ChunkError(f"a chunk of the stream is no JSON object that can be kept: {error}") from None
        if chunk.get("error"):
            raise SaidError(chunk["error"])
        self.chunks += 1
        choices = chunk.pop("choices", None)
        usage = chunk.pop("usage", None)
        self.usage = usage if isinstance(usage, dict) else self.usage
        for name, value in chunk.items():
            if name not in self._head and value is not None and len(self._head) < CHOICES:
                self._spend(value)
                self._head[name] = value
        added = ""
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                raise ChunkError("a choice of a chunk is no object")
            added += self._take_choice(choice)
        return added

    @property
    def is_whole(self) -> bool:
        """Whether every choice that was asked for has said why it ended."""
        ended = sum(choice.finish_reason is not None for choice in self._choices.values())
        return ended >= max(1, self._wanted, len(self._choices))

    def fail(self, data: str) -> NoReturn:
        """Take the data of an event that is called an error."""
        try:
            body = body_of(data.encode())
        except RejectedError:
            raise SaidError(data) from None
        raise SaidError(body.get("error") or body)

    def _take_choice(self, said: dict[str, Any]) -> str:
        index = _index(said, 0)
        if index not in self._choices and len(self._choices) >= CHOICES:
            raise TooMuchError(f"the stream has more than {CHOICES} choices")
        choice = self._choices.setdefault(index, _Choice())
        delta = said.get("delta")
        added = ""
        if isinstance(delta, dict):
            self._spend(delta)
            added = choice.take(delta)
        if isinstance(reason := said.get("finish_reason"), str):
            choice.finish_reason = reason
        if isinstance(logprobs := said.get("logprobs"), dict):
            self._spend(logprobs)
            choice.take_logprobs(logprobs)
        return added if index == min(self._choices) else ""

    def _spend(self, value: Any) -> None:
        self._left_bytes -= _size(value)
        if self._left_bytes < 0:
            raise TooMuchError(f"the answer has more than {self._most_bytes} bytes")

    def whole(self) -> dict[str, Any]:
        """The completion.

        Raises:
            ChunkError: nothing has come that would be one.
        """
        if not self._choices:
            raise ChunkError("the stream has no choice")
        head = {name: value for name, value in self._head.items() if name != "object"}
        choices = [choice.whole(index) for index, choice in sorted(self._choices.items())]
        found = {**head, "object": "chat.completion", "choices": choices}
        return found if self.usage is None else {**found, "usage": self.usage}


class _Choice:
    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._other: dict[str, Any] = {}
        self._calls: dict[int, _Call] = {}
        self._logprobs: dict[str, Any] = {}
        self.finish_reason: str | None = None

    def take(self, delta: dict[str, Any]) -> str:
        for name, value in delta.items():
            if name == "tool_calls" and isinstance(value, list):
                self._take_calls(value)
            elif value is None:
                self._other.setdefault(name, None)
            elif isinstance(value, str) and name not in _SAME:
                self._texts.setdefault(name, []).append(value)
            elif name == "function_call" and isinstance(value, dict):
                self._calls.setdefault(-1, _Call()).take({"function": value})
            elif isinstance(value, list) and isinstance(known := self._other.get(name), list):
                known += value
            elif isinstance(value, dict) and isinstance(known := self._other.get(name), dict):
                _merge(known, value)
            elif name not in self._other or self._other[name] is None:
                self._other[name] = value
        text = delta.get("content")
        return text if isinstance(text, str) else ""

    def _take_calls(self, calls: list[Any]) -> None:
        for place, call in enumerate(calls):
            if not isinstance(call, dict):
                raise ChunkError("a tool call of a chunk is no object")
            index = _index(call, place)
            if index not in self._calls and len(self._calls) >= CALLS:
                raise TooMuchError(f"a choice has more than {CALLS} tool calls")
            self._calls.setdefault(index, _Call()).take(call)

    def take_logprobs(self, said: dict[str, Any]) -> None:
        for name, value in said.items():
            known = self._logprobs.get(name)
            if isinstance(value, list) and isinstance(known, list):
                known += value
            else:
                self._logprobs[name] = value

    def whole(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None, **self._other}
        message |= {name: "".join(parts) for name, parts in self._texts.items()}
        legacy = self._calls.pop(-1, None)
        if legacy is not None:
            message["function_call"] = legacy.whole()["function"]
        if self._calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        logprobs = self._logprobs or None
        return {
            "index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason,
        }  # fmt: skip


class _Call:
    """A tool call: what is said once, and its texts, which are continued."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._function: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}

    def take(self, call: dict[str, Any]) -> None:
        for name, value in call.items():
            if name == "function" and isinstance(value, dict):
                for part, text in value.items():
                    if isinstance(text, str) and part not in _SAME:
                        self._texts.setdefault(part, []).append(text)
                    elif text:
                        self._function.setdefault(part, text)
            elif name != "index" and value:
                self._said.setdefault(name, value)

    def whole(self) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        function = {"name": "", "arguments": ""} | self._function | texts
        return {"type": "function", **self._said, "function": function}


def _merge(known: dict[str, Any], said: dict[str, Any]) -> None:
    """Continue the texts of an object, as of a voice; what is said once stays."""
    for name, value in said.items():
        before = known.get(name)
        if isinstance(value, str) and isinstance(before, str) and name not in _SAME:
            known[name] = before + value
        elif isinstance(value, list) and isinstance(before, list):
            before += value
        elif before is None:
            known[name] = value


def _index(said: dict[str, Any], other: int) -> int:
    index = said.get("index", other)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 10**6:
        raise ChunkError("an index of a chunk is no small number")
    return index


def _size(value: Any) -> int:
    """About how many bytes a value takes."""
    match value:
        case str():
            return len(value) + 8
        case dict():
            return sum(len(name) + _size(part) for name, part in value.items()) + 8
        case list():
            return sum(map(_size, value)) + 8
        case _:
            return 8
