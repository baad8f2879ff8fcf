"""From a graph as ComfyUI's editor saves it to the API form that can be run.

The editor saves what it draws: nodes with widgets by their order, links, notes, reroutes, groups. Which
widget is which input stands in the server's `/object_info`. What the editor does when it exports is done
here for plain graphs; a graph that needs more is refused by name, and "Export (API)" in the editor works.
Source: the form of saved workflows, version 0.4 and 1.0, as ComfyUI's frontend writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

NOTES: Final = frozenset({"Note", "MarkdownNote"})
REROUTE: Final = "Reroute"
PRIMITIVE: Final = "PrimitiveNode"
MUTED: Final = 2
BYPASSED: Final = 4
DEEPEST: Final = 1000
_WIDGETS: Final = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
_CONTROLS: Final = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
_SEEDS: Final = frozenset({"seed", "noise_seed"})
_UPLOADS: Final = ("image_upload", "video_upload", "audio_upload", "upload")


class EditorError(ValueError):
    """The graph cannot be brought into API form; says why, and at which node."""


class _Link(NamedTuple):
    node: str
    slot: int


class _Node(NamedTuple):
    id: str
    type: str
    mode: int
    inputs: list[Mapping[str, Any]]
    outputs: list[Mapping[str, Any]]
    widgets: Any
    title: str


def is_editors(graph: Any) -> bool:
    """Whether a graph is in the editor's form."""
    return isinstance(graph, Mapping) and isinstance(graph.get("nodes"), list) and "links" in graph


def classes_of(graph: Mapping[str, Any]) -> tuple[str, ...]:
    """The node classes of a graph in the editor's form about which `/object_info` has to say something."""
    own = NOTES | {REROUTE, PRIMITIVE}
    found = {node.get("type") for node in graph["nodes"] if isinstance(node, Mapping)}
    return tuple(sorted(name for name in found if isinstance(name, str) and name not in own))


def api_form(graph: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The graph in API form.

    Args:
        graph: as the editor saves it.
        object_info: what `GET /object_info` says of its classes, by name.

    Raises:
        EditorError: it cannot be done.
    """
    return _Conversion(graph, object_info).run()


class _Conversion:
    def __init__(self, graph: Mapping[str, Any], object_info: Mapping[str, Any]) -> None:
        subgraphs = graph.get("definitions")
        if isinstance(subgraphs, Mapping) and subgraphs.get("subgraphs"):
            raise EditorError("the graph has subgraphs: unpack them in the editor, or export it in API form")
        self._info = object_info
        self._nodes = {node.id: node for node in map(_node, graph["nodes"])}
        self._links = dict(map(_link, _links(graph["links"])))

    def run(self) -> dict[str, Any]:
        found = {}
        for node in self._nodes.values():
            if node.type in NOTES or node.type in (REROUTE, PRIMITIVE) or node.mode in (MUTED, BYPASSED):
                continue
            found[node.id] = {
                "class_type": node.type,
                "inputs": self._inputs(node),
                "_meta": {"title": node.title or node.type},
            }
        if not found:
            raise EditorError("the graph has no node that is run")
        return found

    def _inputs(self, node: _Node) -> dict[str, Any]:
        inputs = self._widgets(node)
        for slot in node.inputs:
            name, link = slot.get("name"), slot.get("link")
            if not isinstance(name, str) or link is None:
                continue
            source = self._source(link)
            if isinstance(source, _Link):
                inputs[name] = [source.node, source.slot]
            elif source is not None:
                inputs[name] = source[0]
        return inputs

    def _widgets(self, node: _Node) -> dict[str, Any]:
        """Which input each saved widget is, in the order that the server declares."""
        info = self._info.get(node.type)
        if not isinstance(info, Mapping) or not isinstance(info.get("input"), Mapping):
            raise EditorError(
                f"node {node.id}: object_info says nothing of the class {node.type!r}; "
                "ask a ComfyUI that has it, or export the graph in API form"
            )
        if isinstance(node.widgets, Mapping):
            known = {name for name, _, _ in _declared(info)}
            return {name: value for name, value in node.widgets.items() if name in known}
        values, found = list(node.widgets or ()), {}
        for name, form, options in _declared(info):
            if not _is_widget(form, options):
                continue
            if not values:
                break
            found[name] = values.pop(0)
            controlled = options.get("control_after_generate") or (form == "INT" and name in _SEEDS)
            if controlled and values and values[0] in _CONTROLS:
                values.pop(0)
            if (
                any(options.get(upload) for upload in _UPLOADS)
                and values
                and values[0] in ("image", "video", "audio")
            ):
                values.pop(0)
        if values:
            raise EditorError(
                f"node {node.id} ({node.type}): {len(values)} of its values belong to no input that "
                "object_info declares; export the graph in API form"
            )
        return found

    def _source(self, link: Any) -> _Link | tuple[Any] | None:
        """Where a link comes from, past nodes that are not run; a value of a primitive, None for nothing."""
        for _ in range(DEEPEST):
            found = self._links.get(_key(link))
            node = None if found is None else self._nodes.get(found.node)
            if found is None or node is None:
                return None
            if node.type == PRIMITIVE:
                values = node.widgets if isinstance(node.widgets, list) else []
                return (values[0],) if values else None
            if node.mode == MUTED:
                return None
            if node.type != REROUTE and node.mode != BYPASSED:
                return found
            link = _through(node, found.slot)
            if link is None:
                return None
        raise EditorError("the links of the graph go in a circle")


def _through(node: _Node, slot: int) -> Any:
    """The link that goes on through a reroute or a bypassed node: into the input of the output's type."""
    if node.type == REROUTE:
        return node.inputs[0].get("link") if node.inputs else None
    wanted = node.outputs[slot].get("type") if slot < len(node.outputs) else None
    same = [one for one in node.inputs if one.get("type") == wanted and one.get("link") is not None]
    if slot < len(node.inputs) and node.inputs[slot] in same:
        return node.inputs[slot]["link"]
    return same[0]["link"] if same else None


def _declared(info: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Name, type and options of each input, in the order of the server."""
    orders = info.get("input_order")
    for part in ("required", "optional"):
        inputs = info["input"].get(part)
        if not isinstance(inputs, Mapping):
            continue
        order = orders.get(part) if isinstance(orders, Mapping) else None
        for name in order if isinstance(order, list) else inputs:
            declared = inputs.get(name)
            if isinstance(declared, list) and declared:
                options = declared[1] if len(declared) > 1 and isinstance(declared[1], Mapping) else {}
                yield name, declared[0], options


def _is_widget(form: Any, options: Mapping[str, Any]) -> bool:
    return (isinstance(form, list) or form in _WIDGETS) and not options.get("forceInput")


def _node(node: Any) -> _Node:
    if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
        raise EditorError("nodes: each has an id and a type")
    mode, title = node.get("mode"), node.get("title")
    return _Node(
        _key(node.get("id")), node["type"], mode if isinstance(mode, int) else 0, _slots(node, "inputs"),
        _slots(node, "outputs"), node.get("widgets_values"), title if isinstance(title, str) else "",
    )  # fmt: skip


def _slots(node: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = node.get(name)
    return [slot for slot in found if isinstance(slot, Mapping)] if isinstance(found, list) else []


def _links(links: Any) -> list[Any]:
    return list(links.values()) if isinstance(links, Mapping) else list(links or ())


def _link(link: Any) -> tuple[str, _Link]:
    """A link by its id: `[id, from, slot, to, slot, type]`, or an object with the same names."""
    if isinstance(link, list) and len(link) >= 5:
        name, node, slot = link[0], link[1], link[2]
    elif isinstance(link, Mapping):
        name, node, slot = link.get("id"), link.get("origin_id"), link.get("origin_slot")
    else:
        name = node = slot = None
    if not isinstance(slot, int):
        raise EditorError("links: each has an id, and the node and output that it comes from")
    return _key(name), _Link(_key(node), slot)


def _key(name: Any) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise EditorError("nodes and links: an id is a number or a text")
    return str(name)
