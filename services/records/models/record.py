"""A model file as an operator's catalogue has it, and the fetch of one as its worker reports it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from switchyard.events import subjects
from switchyard.services.broker.bucket import Form, Gone, Key, json_values
from switchyard.services.records.servers.record import Sealed

FOLDER_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z"
FOLDER: Final = re.compile(FOLDER_PATTERN)
NOT_MODELS: Final = frozenset({"custom_nodes", "configs"})
"""Folders of ComfyUI that hold programs and settings, which nobody may have written by this way."""
SUFFIXES: Final = (
    ".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".onnx", ".pkl",
)  # fmt: skip
"""How the names of model files end. Source: `folder_paths.py` of ComfyUI, and the loaders of GGUF."""
NAME_BYTES: Final = 255
PART_BYTES: Final = 200
"""Most bytes of a part of a name; file systems take 255, and a file on its way has a longer name."""
SHA256_PATTERN: Final = r"^[0-9a-f]{64}\Z"
MOST_BYTES: Final = 2**43
MOST_TENANTS: Final = 100
FETCH_S: Final = 30.0
"""How long a fetch counts that nobody reports any more."""

Size = Annotated[int, Meta(ge=1, le=MOST_BYTES)]


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that workers may fetch; one for all tenants, or for some.

    Args:
        folder: that of ComfyUI in which it belongs, such as `checkpoints`.
        name: as graphs name it, with `/` between the folders below that.
        url: where it is fetched.
        sha256: that of the whole file, in lower hex.
        size_bytes: exactly.
        vram_mib: memory that the GPU has to have; 0 for any.
        tenants: for whose jobs it is fetched; none for all.
        credentials: what the request carries; None for nothing.
        created_by: the actor who entered it.
    """

    folder: Annotated[str, Meta(pattern=FOLDER_PATTERN)]
    name: str
    url: str
    sha256: Annotated[str, Meta(pattern=SHA256_PATTERN)]
    size_bytes: Size
    vram_mib: Annotated[int, Meta(ge=0, le=2**31)] = 0
    tenants: tuple[str, ...] = ()
    credentials: Sealed | None = None
    created_at: datetime
    created_by: str
    updated_at: datetime

    @property
    def key(self) -> Key:
        """Where it stands."""
        return self.folder, self.name

    def is_for(self, tenant: str) -> bool:
        """Whether it is fetched for a tenant's jobs."""
        return not self.tenants or tenant in self.tenants


class Fetch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file on its way to a worker; while it stands, nobody else begins to fetch the same.

    Args:
        folder: that of the file.
        name: that of the file.
        claim: unlike that of any other fetch; whoever knows it continues this one.
        worker: who fetches.
        instance: the id of its connector.
        revision: that of the catalogue's entry.
        done_bytes: that have come.
        size_bytes: that of all of it.
        left_s: seconds that are left, as its pace was last; None where that is not known.
        began_at: by the clock of a gateway.
    """

    folder: str
    name: str
    claim: str
    worker: str
    instance: str
    revision: int
    size_bytes: int
    began_at: datetime
    done_bytes: int = 0
    left_s: float | None = None

    @property
    def key(self) -> Key:
        """Where it stands."""
        return self.folder, self.name


def path_fault(folder: str, name: str) -> tuple[str, str] | None:
    """What is wrong with a file's place: the field, and what was expected there; None for nothing."""
    if FOLDER.fullmatch(folder) is None or folder.lower() in NOT_MODELS:
        return "folder", "the name of a folder of models, such as checkpoints"
    if not name.isprintable() or not 1 <= len(name.encode()) <= NAME_BYTES:
        return "name", f"1 to {NAME_BYTES} bytes of printable text"
    if any(sign in name for sign in '\\:*?"<>|'):
        return "name", 'a file name without any of \\ : * ? " < > |, with / between folders'
    for part in name.split("/"):
        if not part or part[0] in ". " or part[-1] in ". " or len(part.encode()) > PART_BYTES:
            return (
                "name",
                f"parts of 1 to {PART_BYTES} bytes between the /, none with a dot or blank at an end",
            )
    if not name.lower().endswith(SUFFIXES):
        return "name", f"a model file: one that ends with {', '.join(SUFFIXES)}"
    return None


def is_key(key: Key) -> None:
    """Refuse what is the place of no model file.

    Raises:
        ValueError: it is none.
    """
    fault = path_fault(*key)
    if fault is not None:
        raise ValueError(f"{fault[0]}: {fault[1]} expected")


def _belongs(key: Key, found: Model | Fetch) -> None:
    if key != found.key:
        raise ValueError("it stands in another place than its own")


MODELS: Final = Form(
    name=subjects.BUCKET_MODELS, parts=("folder", "name"), values=json_values(Model), check=is_key,
    belongs=_belongs, gone=Gone("PURGE", rolls_up=True, ttl_s=3600), max_bytes=32 * 1024,
)  # fmt: skip
FETCHES: Final = Form(
    name=subjects.BUCKET_MODEL_FETCHES, parts=("folder", "name"), values=json_values(Fetch), check=is_key,
    belongs=_belongs, gone=Gone("PURGE", rolls_up=True, ttl_s=60), max_bytes=4 * 1024,
)  # fmt: skip
