"""GPUs, as the programs of their drivers list them.

Source: `nvidia-smi --help-query-gpu`; NVIDIA's user guide of MIG; the output of rocm-smi 5 and 6.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from switchyard.services.worker.hardware.program import Answer, Program

MIB: Final = 1024**2
GIB: Final = 1024**3
MOST: Final = 256
NAME_CHARS: Final = 100
NVIDIA_FIELDS: Final = ("index", "uuid", "name", "memory.total", "driver_version")
MIG: Final = "mig.mode.current"  # which old drivers do not know
_MIG_DEVICE: Final = re.compile(r"\s+MIG\s+(?P<profile>\S+)\s+Device\s+\d+:\s+\(UUID:\s*(?P<uuid>[^)\s]+)\)")
_GPU: Final = re.compile(r"GPU\s+(?P<index>\d+):.*\(UUID:\s*(?P<uuid>[^)\s]+)\)")
_PROFILE_GB: Final = re.compile(r"\.(\d+)gb")
_DIGITS: Final = re.compile(r"\s*(\d+)\s*(MiB)?\s*")
HIDDEN: Final = ("", "-1", "NoDevFiles", "none", "void")


class Gpu(NamedTuple):
    """A GPU, or a slice of one.

    Args:
        vendor: `nvidia` or `amd`.
        model: its name.
        memory_bytes: None where its driver does not say, as for memory that it shares with the processor.
        driver: the driver's version, or "".
        ids: its number and UUID, by which variables name it.
        mig: the profile of a slice, or "".
    """

    vendor: str
    model: str
    memory_bytes: int | None
    driver: str = ""
    ids: tuple[str, ...] = ()
    mig: str = ""


def capability(gpus: Sequence[Gpu]) -> dict[str, Any]:
    """What a worker with these GPUs declares as `gpu`; nothing without any.

    Where they differ, names are lists and `memory_gb` is that of the smallest, which any job may come to.
    """
    if not gpus:
        return {}
    said: dict[str, Any] = {"count": len(gpus)}
    said["vendor"] = _one_or_all(gpu.vendor for gpu in gpus)
    said["model"] = _one_or_all(gpu.model for gpu in gpus if gpu.model)
    sizes = [round(gpu.memory_bytes / GIB) for gpu in gpus if gpu.memory_bytes]
    if len(sizes) == len(gpus):
        said |= {"memory_gb": min(sizes), "memory_total_gb": sum(sizes)}
    said["driver"] = _one_or_all(gpu.driver for gpu in gpus if gpu.driver)
    said["mig"] = sorted({gpu.mig for gpu in gpus if gpu.mig})
    return {name: value for name, value in said.items() if value not in (None, [])}


def _one_or_all(values: Iterable[str]) -> str | list[str] | None:
    found = sorted(set(values))
    return found[0] if len(found) == 1 else found or None


# --- NVIDIA


def nvidia(program: Program, visible: str | None) -> list[Gpu] | None:
    """The GPUs of NVIDIA's driver; None where that is not to be learnt now.

    Args:
        program: nvidia-smi.
        visible: CUDA_VISIBLE_DEVICES, which hides the others.
    """
    answer = _query(program, (*NVIDIA_FIELDS, MIG))
    if answer is not None and answer.code and "not a valid field" in answer.output + answer.errors:
        answer = _query(program, NVIDIA_FIELDS)
    if answer is None:
        return None
    found, sliced = read_nvidia(answer)
    if sliced:
        listed = program.run(("-L",))
        if listed is None:
            return None
        found = [gpu for gpu in found if gpu.ids[1] not in sliced] + read_slices(listed.output, sliced)
    return _visible(found, visible)


def _query(program: Program, fields: Sequence[str]) -> Answer | None:
    return program.run((f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"))


def read_nvidia(answer: Answer) -> tuple[list[Gpu], dict[str, Gpu]]:
    """The GPUs of an answer, and by UUID those that are cut into slices.

    A line that is none of a GPU, as one about a GPU that is lost, is left out.
    """
    found: list[Gpu] = []
    sliced: dict[str, Gpu] = {}
    for line in answer.output.splitlines()[:MOST]:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < len(NVIDIA_FIELDS) or not cells[0].isdecimal() or not cells[1].startswith("GPU-"):
            continue
        has_mig = len(cells) > len(NVIDIA_FIELDS) and not _is_version(cells[-1])
        end = cells[-3:] if has_mig else [*cells[-2:], ""]
        memory, driver, mig = end
        name = ", ".join(cells[2 : len(cells) - (3 if has_mig else 2)])
        gpu = Gpu("nvidia", _name(name), _mib(memory), _name(driver), (cells[0], cells[1]))
        found.append(gpu)
        if mig == "Enabled":
            sliced[cells[1]] = gpu
    return found, sliced


def _is_version(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)+", text) is not None


def read_slices(output: str, whole: dict[str, Gpu]) -> list[Gpu]:
    """The slices that `nvidia-smi -L` lists below GPUs that are cut into some.

    Args:
        output: what it says.
        whole: those GPUs by UUID. One without a slice gives none: nothing can be run on it.
    """
    found: list[Gpu] = []
    of: Gpu | None = None
    for line in output.splitlines()[: 8 * MOST]:
        if (named := _GPU.match(line)) is not None:
            of = whole.get(named["uuid"])
        elif (part := _MIG_DEVICE.match(line)) is not None and of is not None:
            size = _PROFILE_GB.search(part["profile"])
            memory = int(size[1]) * GIB if size else None
            found.append(
                Gpu("nvidia", of.model, memory, of.driver, ("", part["uuid"]), _name(part["profile"]))
            )
    return found[:MOST]


def _visible(gpus: list[Gpu], visible: str | None) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES names; it ends at the first name that is none. Source: CUDA's guide."""
    if visible is None:
        return gpus
    found: list[Gpu] = []
    for name in (each.strip() for each in visible.split(",")):
        if name in HIDDEN:
            break
        named = [gpu for gpu in gpus if name == gpu.ids[0] or (len(name) > 4 and gpu.ids[1].startswith(name))]
        if len(named) != 1:
            break
        found += [gpu for gpu in named if gpu not in found]
    return found


# --- AMD


def amd(program: Program) -> list[Gpu] | None:
    """The GPUs of AMD's driver; None where that is not to be learnt now."""
    answer = program.run(("--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--json"))
    return None if answer is None else read_amd(answer)


def read_amd(answer: Answer) -> list[Gpu]:
    """The GPUs of an answer; warnings may stand before its JSON, and names vary between versions."""
    start = answer.output.find("{")
    try:
        read = json.JSONDecoder().raw_decode(answer.output[start:])[0] if start >= 0 else {}
    except (ValueError, RecursionError):
        return []
    driver = ""
    cards: list[dict[str, str]] = []
    for name, values in read.items():
        if not isinstance(values, dict):
            continue
        low = {str(key).lower(): str(value) for key, value in values.items()}
        if str(name).startswith("card"):
            cards.append(low)
        driver = low.get("driver version", driver)
    return [
        Gpu("amd", _name(_of_card(card)), _bytes(card.get("vram total memory (b)", "")), _name(driver))
        for card in cards[:MOST]
    ]


def _of_card(card: dict[str, str]) -> str:
    names = (card.get(key, "") for key in ("card series", "card model", "card sku"))
    return next((name for name in names if name and name != "N/A" and not name.startswith("0x")), "")


# --- Values


def _mib(text: str) -> int | None:
    found = _DIGITS.fullmatch(text)  # else `[N/A]`, `[Insufficient Permissions]` and the like
    return None if found is None else _bytes(str(int(found[1][:12]) * MIB))


def _bytes(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 18 and int(text) else None


def _name(text: str) -> str:
    plain = "".join(letter for letter in text if letter.isprintable()).strip()[:NAME_CHARS]
    return "" if plain.startswith("[") else plain
