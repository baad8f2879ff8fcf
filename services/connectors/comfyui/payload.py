"""The payload of the kind `comfyui`: a graph, its files, and what is wanted of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
import pydantic

from switchyard.services.connectors.comfyui.graph import literal_texts
from switchyard.services.connectors.payload import FileId, Payload

NODES: Final = 5_000
FILES: Final = 100
GRAPH_BYTES: Final = 8 * 1024**2
NodeId = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Name = Annotated[str, pydantic.Field(min_length=1, max_length=255)]


class ComfyNode(pydantic.BaseModel):
    """A node of a graph; what else it has is left as it is."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", strict=True)

    class_type: Annotated[str, pydantic.Field(min_length=1, max_length=200)]
    inputs: dict[Name, Any]


class ComfyPayload(Payload):
    """What to run.

    Args:
        prompt: the graph in API form, as "Export (API)" of ComfyUI writes it.
        files: input files by the name that the graph has for them.
        outputs: the nodes whose files are wanted; all without.
        workflow: the graph as the editor has it, which ComfyUI writes into its images.
        free: whether the models are unloaded afterwards.
    """

    prompt: Annotated[dict[NodeId, ComfyNode], pydantic.Field(min_length=1, max_length=NODES)]
    files: Annotated[dict[Name, FileId], pydantic.Field(max_length=FILES, default_factory=dict)]
    outputs: Annotated[list[NodeId], pydantic.Field(min_length=1, max_length=NODES)] | None = None
    workflow: dict[str, Any] | None = None
    free: bool = False

    @pydantic.model_validator(mode="after")
    def _fits(self) -> ComfyPayload:
        graph = self.graph()
        if unknown := [name for name in self.outputs or () if name not in graph]:
            raise ValueError(f"outputs: the graph has no node {unknown[0]!r}")
        texts = literal_texts(graph) if self.files else set()
        if unused := [name for name in self.files if name not in texts]:
            raise ValueError(f"files: no input of the graph is {unused[0]!r}")
        try:
            size = len(orjson.dumps(graph))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"prompt: {error}") from None
        if size > GRAPH_BYTES:
            raise ValueError(f"prompt: at most {GRAPH_BYTES} bytes as JSON")
        return self

    def graph(self) -> dict[str, Any]:
        """The graph as JSON has it."""
        return {name: node.model_dump() for name, node in self.prompt.items()}
