"""The doors of every gateway."""

from __future__ import annotations

from switchyard.services.gateway.doors.compat.mistral.door import MistralDoor
from switchyard.services.gateway.doors.compat.openai.door import OpenAIDoor
from switchyard.services.gateway.doors.compat.replicate.door import ReplicateDoor
from switchyard.services.gateway.doors.compat.runpod.door import RunpodDoor
from switchyard.services.gateway.doors.emp.door import EmpDoor
from switchyard.services.gateway.doors.ilios.door import IliosDoor
from switchyard.services.gateway.doors.octopoid.door import OctopoidDoor
from switchyard.services.gateway.doors.tasks.door import TaskDoor
from switchyard.services.gateway.doors.v1.door import V1
from switchyard.services.gateway.http.doors import Door


def doors() -> tuple[Door, ...]:
    """The APIs that every gateway has beside its own few paths."""
    return (
        V1(), OctopoidDoor(), TaskDoor(), ReplicateDoor(), RunpodDoor(), OpenAIDoor(), MistralDoor(),
        EmpDoor(), IliosDoor(),
    )  # fmt: skip
