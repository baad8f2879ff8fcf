"""What the payload of a job needs of a worker, where its kind can find that out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from switchyard.events.requirements.matching import Clause

import msgspec

LACKS: Final = "it lacks "

File = tuple[str, str]
"""Folder and name of a model file."""


class Needs(NamedTuple):
    """What a payload needs, in the language of requirements.

    Args:
        requires: requirements that many jobs of the kind share.
        files: those that differ from job to job, and would make a lane for each.
        prefers: what ranks the workers that fit; {} for nothing.
    """

    requires: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    prefers: Mapping[str, Any] = MappingProxyType({})

    @property
    def is_empty(self) -> bool:
        """Whether any worker of the kind will do."""
        return not (self.requires or self.files or self.prefers)


def _no_files(_clause: Clause) -> None:
    """Nothing that is asked for is a file that could be fetched."""


def _the_same(capabilities: Mapping[str, Any], _files: Iterable[File]) -> dict[str, Any]:
    return dict(capabilities)


def _nothing(_files: Iterable[File]) -> dict[str, Any]:
    return {}


class Derivation(NamedTuple):
    """How a kind finds out what a payload needs; pure, and quick for any payload.

    Args:
        needs: what a payload needs; it may be of any form, since only its size was looked at.
        words: what a worker lacks that fails a part of that, such as `the model loras/a.safetensors`; None
            for a part that is none of it.
        files: the model files that a worker lacks that fails a part, by folder and name; None for a part
            that asks for anything else.
        having: what a worker would declare that had some files beside those that it has.
        requiring: the requirement that a worker has some files.

    The last three are for kinds whose files can be fetched.
    """

    needs: Callable[[Mapping[str, Any]], Needs]
    words: Callable[[Clause], str | None]
    files: Callable[[Clause], tuple[File, ...] | None] = _no_files
    having: Callable[[Mapping[str, Any], Iterable[File]], dict[str, Any]] = _the_same
    requiring: Callable[[Iterable[File]], dict[str, Any]] = _nothing


def named(clause: Clause, words: str) -> Clause:
    """A part of what a payload needs, by the name of what is lacking; without all that is there beside."""
    return msgspec.structs.replace(clause, message=f"{LACKS}{words}", found=None)


def lacks(clause: Clause) -> str:
    """`with` what a worker would have to have, as `named` has it; "" for any other clause."""
    is_named = clause.message.startswith(LACKS)
    return f"with {clause.message.removeprefix(LACKS)}" if is_named else ""
