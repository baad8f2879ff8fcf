"""What a graph needs of the worker that runs it: node classes of packages, model files, and what is loaded.

A worker declares, as `comfyui`: `nodes`, the classes that a stock ComfyUI does not have; `models`, from each
folder to the files in it; `loaded`, the checkpoints that it has in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from switchyard.events.requirements.matching import Clause
from switchyard.services.connectors.comfyui.graph import checkpoints_of, custom_classes_of, model_files_of
from switchyard.services.connectors.derived.needs import Derivation, File, Needs

KIND: Final = "comfyui"
NODES: Final = "comfyui.nodes"
MODELS: Final = "comfyui.models."
LOADED: Final = "comfyui.loaded"
MOST_NODES: Final = 5000
"""How many nodes a graph may have that is looked at; the kind takes none that is larger."""
AT_ONCE: Final = 64
"""Names in one condition. Source: the limit on lists in a requirement."""
SHOWN: Final = 5


def needs_of(payload: Mapping[str, Any]) -> Needs:
    """What the graph of a payload needs; nothing where it has none."""
    graph = payload.get("prompt")
    if not isinstance(graph, Mapping) or len(graph) > MOST_NODES:
        return Needs()
    files: dict[str, list[str]] = defaultdict(list)
    for file in model_files_of(graph):
        files[file.folder].append(file.name)
    return Needs(
        tuple(_all(NODES, custom_classes_of(graph))),
        tuple(part for folder, names in sorted(files.items()) for part in _all(MODELS + folder, names)),
        _any(LOADED, checkpoints_of(graph)[:AT_ONCE]),
    )


def words_of(clause: Clause) -> str | None:
    """What a worker lacks of a graph's needs, by name."""
    names = _names(clause)
    if names is None:
        return None
    if clause.path == NODES:
        what, where = "node", ""
    elif clause.path.startswith(MODELS):
        what, where = "model", f"{clause.path.removeprefix(MODELS)}/"
    else:
        return None
    lacking = [f"{where}{name}" for name in _lacking(clause, names)]
    shown = ", ".join(lacking[:SHOWN])
    if len(lacking) > SHOWN:
        shown += f" and {len(lacking) - SHOWN} more"
    return f"the {what}{'s' if len(lacking) > 1 else ''} {shown}"


def files_of(clause: Clause) -> tuple[File, ...] | None:
    """The model files that a worker lacks; None for a part that asks for anything else."""
    names = _names(clause)
    if names is None or not clause.path.startswith(MODELS):
        return None
    folder = clause.path.removeprefix(MODELS)
    return tuple((folder, name) for name in _lacking(clause, names) if isinstance(name, str))


def having(capabilities: Mapping[str, Any], files: Iterable[File]) -> dict[str, Any]:
    """What a worker would declare that had some files beside those that it has."""
    said = capabilities.get(KIND)
    own = dict(said) if isinstance(said, Mapping) else {}
    models = dict(found) if isinstance(found := own.get("models"), Mapping) else {}
    for folder, name in files:
        names = models.get(folder)
        models[folder] = [*(names if isinstance(names, list) else ()), name]
    return {**capabilities, KIND: {**own, "models": models}}


def requiring(files: Iterable[File]) -> dict[str, Any]:
    """The requirement that a worker has some files."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for folder, name in files:
        by_folder[folder].append(name)
    parts = [part for folder, names in sorted(by_folder.items()) for part in _all(MODELS + folder, names)]
    return {"$and": parts} if parts else {}


def _names(clause: Clause) -> list[Any] | None:
    """What is to be in a list, where a part asks for that."""
    names = clause.wanted if clause.operator == "$all" else [clause.wanted]
    return names if clause.operator in ("$has", "$all") and isinstance(names, list) else None


def _lacking(clause: Clause, names: Iterable[Any]) -> list[Any]:
    has = {name for name in clause.found if isinstance(name, str)} if isinstance(clause.found, list) else ()
    return [name for name in names if name not in has]


def _all(path: str, names: Iterable[str]) -> list[dict[str, Any]]:
    wanted = list(names)
    return [{path: {"$all": wanted[start : start + AT_ONCE]}} for start in range(0, len(wanted), AT_ONCE)]


def _any(path: str, names: Iterable[str]) -> dict[str, Any]:
    wanted = list(names)
    return {path: {"$any": wanted}} if wanted else {}


DERIVATION: Final = Derivation(needs_of, words_of, files_of, having, requiring)
