"""Handlers: functions of your own that run kinds of jobs; `docs/handlers.md` shows how.

They run under `switchyard worker --handlers module:attribute`, under `switchyard.worker.Worker` over REST,
and without either under `switchyard.testing`.
"""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pydantic

from switchyard._worker.contained import end_if_forked
from switchyard._worker.context import Context, SyncContext
from switchyard._worker.given.spawning import Join, Part, PartOutcome, SyncPart
from switchyard._worker.given.surroundings import Artifact, InputFile
from switchyard._worker.handler_errors import (
    Cancelled,
    Fatal,
    HandlerError,
    HandlersError,
    Release,
    Retry,
    as_failure,
    contained,
    plain,
)
from switchyard.events.subjects import NAME

__all__ = [
    "Artifact", "Cancelled", "Context", "Fatal", "Handler", "HandlerError", "Handlers", "HandlersError",
    "InputFile", "Join", "Part", "PartOutcome", "Proposal", "Release", "Retry", "SyncContext", "SyncPart",
]  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])
INVALID_PAYLOAD: Final = "invalid_payload"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A result that waits for a reviewer; a handler returns it in the place of the result itself.

    Args:
        result: any JSON value.
        checks: which checks it passed and which it did not; the job's `review` may accept it by them.
    """

    result: Any = None
    checks: dict[str, bool] = field(default_factory=dict)


class Handler:
    """A function that runs the jobs of one kind.

    Args:
        kind: that of the jobs.
        function: `async`, or plain; it takes the payload and, if it has a second parameter, the context.
        slots: how many of its attempts a worker runs at once; None for as many as the worker has slots.
        capabilities: what it adds to its worker's.
        process: whether it runs in a child process, which can be killed.
        shared: whether a child process runs jobs of one tenant after those of another.
        pass_env: patterns, such as `CUDA_*`, of the worker's variables that a child process gets.
        memory_bytes: that a child process and all it starts may take; None for the worker's setting.
        setup: called once in each process that runs it, before the first attempt; what it makes ready is kept
            in the module's own variables.
        teardown: called when the worker ends, or a child process ends in good order.

    Raises:
        HandlersError: the function cannot be a handler.
    """

    def __init__(
        self,
        kind: str,
        function: Callable[..., Any],
        *,
        slots: int | None,
        capabilities: dict[str, Any],
        process: bool,
        shared: bool = False,
        pass_env: Sequence[str] = (),
        memory_bytes: int | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[[], Any] | None = None,
    ) -> None:
        name = getattr(function, "__qualname__", repr(function))
        if not isinstance(kind, str) or NAME.fullmatch(kind) is None:
            raise HandlersError(f"{name}: {kind!r} is no kind: a-z, 0-9, _ and -, at most 63")
        if slots is not None and slots < 1:
            raise HandlersError(f"{name}: slots: at least 1 was expected")
        self.kind = kind
        self.function = function
        self.slots = slots
        self.capabilities = capabilities
        self.process = process
        self.is_async = inspect.iscoroutinefunction(function)
        if process and self.is_async:
            raise HandlersError(f"{name}: process=True is for a plain function, not an async one")
        self.shared, self.pass_env, self.memory_bytes = shared, tuple(pass_env), memory_bytes
        self.setup, self.teardown = setup, teardown
        if isinstance(pass_env, str) or not all(isinstance(each, str) for each in self.pass_env):
            raise HandlersError(f"{name}: pass_env: a list of patterns was expected")
        if memory_bytes is not None and memory_bytes < 1:
            raise HandlersError(f"{name}: memory_bytes: at least 1 was expected")
        if not process and (shared or self.pass_env or memory_bytes is not None):
            raise HandlersError(f"{name}: shared, pass_env and memory_bytes are for process=True")
        for what, each in (("setup", setup), ("teardown", teardown)):
            if each is not None and not callable(each):
                raise HandlersError(f"{name}: {what}: a function was expected")
            if process and inspect.iscoroutinefunction(each):
                raise HandlersError(f"{name}: {what}: a plain function was expected with process=True")
        given, self.takes_context = _parameters(name, function)
        self.model = given if isinstance(given, type) and issubclass(given, pydantic.BaseModel) else None
        try:
            self._payload: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(given)
        except pydantic.PydanticUserError as error:
            raise HandlersError(
                f"{name}: {given!r} is no type of a payload: {str(error).splitlines()[0]}"
            ) from None

    def parse(self, payload: dict[str, Any]) -> Any:
        """The payload as the function's first parameter says.

        Raises:
            Fatal: code `invalid_payload`, naming the field and the rule.
        """
        try:
            with contained():
                return self._payload.validate_python(payload)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            at = ".".join(str(part) for part in first["loc"]) or "payload"
            raise Fatal(f"{at}: {first['msg']}", code=INVALID_PAYLOAD) from error

    def payload_model(self) -> type[pydantic.BaseModel]:
        """The type of the payload as a model."""
        if self.model is not None:
            return self.model
        return pydantic.create_model(f"{self.kind}_payload", __base__=pydantic.RootModel[dict[str, Any]])

    def call(self, payload: Any, context: Any) -> Any:
        """Call the function with what it takes; a process that it forks ends with it.

        Raises:
            Retry: code `stopped`: it raised what would end a program.
        """
        pid, status = os.getpid(), 1
        try:
            given = self.function(payload, context) if self.takes_context else self.function(payload)
            status = 0
        except BaseException as error:
            raised = plain(error)
            if not isinstance(raised, Exception | Cancelled):
                raise as_failure(raised) from raised
            if raised is not error:
                raise raised from None
            raise
        finally:
            end_if_forked(pid, status)
        return given


def _parameters(name: str, function: Callable[..., Any]) -> tuple[Any, bool]:
    """The type of the payload, and whether the function takes a context."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if not 1 <= len(parameters) <= 2:
        raise HandlersError(f"{name}: a handler takes the payload, or the payload and the context")
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise HandlersError(f"{name}: its annotations cannot be read: {error}") from None
    return hints.get(parameters[0].name, dict[str, Any]), len(parameters) == 2


class Handlers:
    """Handlers by kind.

    ```python
    handlers = Handlers()

    @handlers.kind("shout")
    async def shout(payload: dict, context: Context) -> dict:
        return {"said": payload["word"].upper()}
    ```
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def kind(
        self,
        kind: str,
        *,
        slots: int | None = None,
        capabilities: dict[str, Any] | None = None,
        process: bool = False,
        shared: bool = False,
        pass_env: Sequence[str] = (),
        memory_bytes: int | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[[], Any] | None = None,
    ) -> Callable[[Function], Function]:
        """Make a function the handler of a kind; the parameters are those of `Handler`.

        Raises:
            HandlersError: the kind has a handler already, or the function cannot be one.
        """

        def register(function: Function) -> Function:
            self.add(
                Handler(
                    kind, function, slots=slots, capabilities=capabilities or {}, process=process,
                    shared=shared, pass_env=pass_env, memory_bytes=memory_bytes,
                    setup=setup, teardown=teardown,
                )
            )  # fmt: skip
            return function

        return register

    def add(self, handler: Handler) -> None:
        """Take a handler in.

        Raises:
            HandlersError: its kind has one already.
        """
        if handler.kind in self._handlers:
            raise HandlersError(f"kind {handler.kind!r} has two handlers")
        self._handlers[handler.kind] = handler

    def __getitem__(self, kind: str) -> Handler:
        """The handler of a kind; KeyError if there is none."""
        return self._handlers[kind]

    def __iter__(self) -> Iterator[Handler]:
        """All of them, as they were registered."""
        return iter(self._handlers.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._handlers)
