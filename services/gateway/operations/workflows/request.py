"""What callers say of a workflow, and the payload that its template is of."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.services.intake.request import JobRequest
from switchyard.services.intake.workflows import editor
from switchyard.services.intake.workflows.declared import SOURCE, UndeclaredError, declared
from switchyard.services.records.workflows.record import Count, Input, InputName

COMFYUI: Final = "comfyui"

Text = Annotated[str, Meta(max_length=2000)]


class WorkflowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that puts a workflow: a payload, or for `comfyui` a graph in either of its forms.

    Args:
        graph: in API form, or as the editor saves it.
        object_info: what the graph's ComfyUI says of its classes; needed for the editor's form, and for
            inputs whose `choices_from` is `object_info`.
    """

    kind: str
    payload: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None
    object_info: dict[str, Any] | None = None
    inputs: dict[InputName, Input] = {}
    job: dict[str, Any] = {}
    count: Count | None = None
    title: Text = ""
    description: Text = ""


class WorkflowSubmission(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that makes jobs of a workflow: what a submission may say, and how many."""

    count: Annotated[int, Meta(ge=1)] | None = None


def payload_of(asked: WorkflowRequest) -> dict[str, Any]:
    """The payload that a template is of; for a graph, the one of a ComfyUI job with that graph.

    Raises:
        InvalidError: it says neither or both, or the graph cannot be brought into API form.
    """
    if (asked.payload is None) is (asked.graph is None):
        raise InvalidError("payload: either this or graph was expected", field="payload")
    if asked.graph is None:
        if asked.object_info is not None:
            raise InvalidError("object_info: it goes with a graph", field="object_info")
        assert asked.payload is not None
        return asked.payload
    if asked.kind != COMFYUI:
        raise InvalidError(f"graph: only the kind {COMFYUI} has one", field="graph")
    graph = asked.graph
    if editor.is_editors(graph):
        if asked.object_info is None:
            message = (
                "graph: it is in the form that the editor saves: give object_info, what its ComfyUI says of "
                f"the classes {', '.join(editor.classes_of(graph)[:20])}, or export it in API form"
            )
            raise InvalidError(message, code="editors_form", field="graph")
        try:
            graph = editor.api_form(graph, asked.object_info)
        except editor.EditorError as error:
            raise InvalidError(f"graph: {error}", code="editors_form", field="graph") from None
    return {"prompt": graph}


def inputs_of(asked: WorkflowRequest, payload: dict[str, Any]) -> dict[str, Input]:
    """The inputs, those with the choices of `object_info` as it declares them.

    Raises:
        InvalidError: it declares nothing for one, or is not given; `field` says for which.
    """
    found = dict(asked.inputs)
    for name, one in asked.inputs.items():
        if one.choices_from != SOURCE:
            continue
        field = f"inputs.{name}.choices_from"
        if asked.object_info is None:
            raise InvalidError(f"{field}: object_info is missing, what it is to be taken from", field=field)
        try:
            found[name] = declared(one, payload["prompt"], asked.object_info)
        except UndeclaredError as error:
            raise InvalidError(f"{field}: {error}", field=field) from None
    return found
