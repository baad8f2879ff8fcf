"""How a connector has to do with fetches, whether its instance fetches or not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from switchyard.services.connectors.comfyui.graph import Graph, model_files_of
from switchyard.services.connectors.comfyui.models.faults import GoneError
from switchyard.services.connectors.comfyui.monitor import Monitor
from switchyard.services.connectors.comfyui.section import ComfySection
from switchyard.services.connectors.protocol import BusyError

if TYPE_CHECKING:
    from switchyard.services.connectors.comfyui.models.fetching import ModelFetching


def fetching_of(section: ComfySection, changed: Callable[[], None], monitor: Monitor) -> ModelFetching | None:
    """What fetches for an instance; None where it may not."""
    if not section.fetch_models:
        return None
    # Only where it is needed: file locks are not everywhere.
    from switchyard.services.connectors.comfyui.models.fetching import (  # noqa: PLC0415
        ModelFetching,
    )

    return ModelFetching(
        section, changed, listed=lambda: monitor.inventory.found.get("models", {}), look=monitor.look_soon
    )


def offered(fetching: ModelFetching | None, found: dict[str, Any]) -> dict[str, Any]:
    """What was found of a server, with what may be fetched, and without what was just removed."""
    if fetching is None:
        return found
    models = found.get("models")
    seen = {} if models is None else {"models": fetching.without_hidden(models)}
    return {**found, **seen, "fetch": fetching.offer()}


@contextlib.asynccontextmanager
async def holding(
    fetching: ModelFetching | None, graph: Graph, *, is_there: bool = False
) -> AsyncIterator[None]:
    """Keep the fetched models of a graph while the block lasts.

    Args:
        fetching: that of the instance.
        graph: what runs.
        is_there: whether it runs already, so that it has them whatever stands on the disk.

    Raises:
        BusyError: one was removed just now; the job goes back to its lane.
    """
    if fetching is None:
        yield
        return
    places = [(file.folder, file.name) for file in model_files_of(graph)]
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(fetching.using(places))
        except GoneError as error:
            if not is_there:
                raise BusyError("model_gone", f"the model {error} was just removed here") from None
        yield
