"""What ComfyUI says, in words that a user may see: without tracebacks and without paths of its machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from switchyard.services.connectors.comfyui.graph import INPUTS, Graph, link_of, title_of

CHARS: Final = 500
FAULTS: Final = 20
_TRACEBACK: Final = re.compile(
    r"Traceback \(most recent call last\).*|^[ \t]*File \"[^\"]*\", line \d+.*", re.DOTALL | re.MULTILINE
)
_PATH: Final = re.compile(r"""(?<![\w.])(?:[A-Za-z]:[\\/]|\\\\|~?/)(?:[^\s'"<>|:*?,;()\[\]\\/]+[\\/])+""")
_FOLDER: Final = re.compile(rf"{INPUTS}[\\/]+[0-9a-f]+")
"""Where a tenant's files are; lists of what a server has would show it to others."""
_MEMORY: Final = re.compile(r"OutOfMemory|out of memory|Allocation on device", re.IGNORECASE)


def cleaned(text: Any) -> str:
    """A text without tracebacks, with the last part alone of each path, and cut."""
    if not isinstance(text, str):
        return ""
    plain = " ".join(_PATH.sub("", _TRACEBACK.sub("", _FOLDER.sub(INPUTS, text[: 20 * CHARS]))).split())
    return plain if len(plain) <= CHARS else plain[: CHARS - 1] + "…"


class Fault(NamedTuple):
    """What is wrong with an input.

    Args:
        node: its id; "" where it is none's.
        field: the input; "" where it is none.
        kind: what ComfyUI calls that.
        message: for people, whole.
    """

    node: str
    field: str
    kind: str
    message: str


def faults_of(node_errors: Any, graph: Graph) -> list[Fault]:
    """What ComfyUI found wrong with nodes, in the order of the graph; the first twenty."""
    place = {node: number for number, node in enumerate(graph)}
    found = sorted(
        _faults(node_errors, graph), key=lambda fault: (place.get(fault.node, len(place)), fault.field)
    )
    return found[:FAULTS]


def _faults(node_errors: Any, graph: Graph) -> Iterator[Fault]:
    for node, found in _mapping(node_errors).items():
        errors = _mapping(found).get("errors")
        for error in errors if isinstance(errors, list) else []:
            known = _mapping(error)
            field = _mapping(known.get("extra_info")).get("input_name")
            field = field if isinstance(field, str) else ""
            if known.get("type") == "exception_during_validation" and (loose := _loose(graph, node)):
                # Its own words are the text of a KeyError.
                field, missing = loose
                known = {**known, "message": f"it is linked to node {missing}, which the graph does not have"}
                known["details"] = ""
            said, details = cleaned(known.get("message")), cleaned(known.get("details"))
            if details and details != field:
                said = f"{said}: {details}"
            where = f"node {node} ({title_of(graph, node)})" + (f", {field}" if field else "")
            yield Fault(str(node), field, cleaned(known.get("type")), f"{where}: {said or 'it is not valid'}")


def _loose(graph: Graph, node_id: Any) -> tuple[str, str] | None:
    """The first input of a node that is linked to none of the graph, and what it names."""
    inputs = _mapping(_mapping(graph.get(node_id)).get("inputs"))
    links = ((name, link_of(value)) for name, value in inputs.items())
    return next(((name, link) for name, link in links if link is not None and link not in graph), None)


def refusal_of(body: Any, graph: Graph) -> tuple[str, str]:
    """Why a prompt was not taken: what ComfyUI calls it, and a sentence that names node and field."""
    answer = _mapping(body)
    error = _mapping(answer.get("error"))
    kind = error.get("type") if isinstance(error.get("type"), str) else "invalid_prompt"
    faults = faults_of(answer.get("node_errors"), graph)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return str(kind), faults[0].message + more
    said, details = cleaned(error.get("message") or answer.get("error")), cleaned(error.get("details"))
    node = _mapping(error.get("extra_info")).get("node_id")
    if isinstance(node, str) and node in graph:
        details = f"node {node} ({title_of(graph, node)})"
    return str(kind), f"{said or 'the graph is not valid'}" + (f" ({details})" if details else "")


class Failure(NamedTuple):
    """How a prompt failed.

    Args:
        out_of_memory: whether the device had too little.
        message: for people; names the node.
    """

    out_of_memory: bool
    message: str


def failure_of(event: Any, graph: Graph) -> Failure:
    """What an `execution_error` says."""
    known = _mapping(event)
    node, kind = known.get("node_id"), known.get("exception_type")
    where = f"node {node} ({title_of(graph, node)}): " if isinstance(node, str) else ""
    name = kind.rpartition(".")[2] if isinstance(kind, str) else ""
    said = known.get("exception_message")
    said = said if isinstance(said, str) else ""
    memory = name == "OutOfMemoryError" or (
        name != "ValueError" and _MEMORY.search(f"{name} {said}") is not None
    )
    if memory:  # what follows is advice on options of ComfyUI
        said = said.partition("\n")[0]
    return Failure(memory, where + ": ".join(part for part in (cleaned(name), cleaned(said)) if part))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
