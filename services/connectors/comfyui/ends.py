"""How a prompt has ended, as its entry in the history says."""

from __future__ import annotations

from typing import Any, Final

from switchyard.services.connectors.comfyui.graph import Graph
from switchyard.services.connectors.comfyui.prompts import Standing
from switchyard.services.connectors.comfyui.wording import failure_of
from switchyard.services.connectors.protocol import BackendLostError, RetryableError

OUT_OF_MEMORY: Final = "out_of_memory"


def check_end(entry: dict[str, Any], graph: Graph, *, is_own: bool) -> None:
    """Whether a prompt ended well.

    Args:
        entry: that of the history.
        graph: what it ran.
        is_own: whether it is the attempt's own prompt, and no earlier one's.

    Raises:
        RetryableError: it did not; names the node.
        BackendLostError: it was an earlier attempt's, and was interrupted.
    """
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    messages = dict(_messages(status))
    if "execution_error" in messages:
        failure = failure_of(messages["execution_error"], graph)
        code = OUT_OF_MEMORY if failure.out_of_memory else "node_failed"
        raise RetryableError(code, failure.message or "a node failed")
    if "execution_interrupted" in messages:
        if not is_own:  # whoever watched it before may have stopped it
            raise BackendLostError("interrupted", "the prompt of an earlier attempt was interrupted")
        raise RetryableError("interrupted", "somebody has interrupted the prompt at ComfyUI")
    if status.get("status_str") == "error":
        raise RetryableError("node_failed", "the prompt failed, and ComfyUI does not say why")


def does(standing: Standing, digest: str) -> bool:
    """Whether a prompt does, or has done, the work of a digest."""
    if standing.mark is None or standing.mark.get("digest") != digest:
        return False
    if standing.state != "ended":
        return True
    status = (standing.entry or {}).get("status")
    return isinstance(status, dict) and status.get("status_str") == "success"


def _messages(status: dict[str, Any]) -> list[tuple[str, Any]]:
    messages = status.get("messages")
    return [
        (message[0], message[1])
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, list) and len(message) == 2 and isinstance(message[0], str)
    ]


def seconds_of(entry: dict[str, Any]) -> float | None:
    """How long it ran, by the server's clock."""
    status = entry.get("status")
    times = [
        data["timestamp"]
        for _, data in _messages(status if isinstance(status, dict) else {})
        if isinstance(data, dict) and isinstance(data.get("timestamp"), int | float)
    ]
    return max(0.0, (times[-1] - times[0]) / 1000) if len(times) > 1 else None
