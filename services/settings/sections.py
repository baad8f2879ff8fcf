"""All settings, and the table of the file that each stands in."""

from __future__ import annotations

from typing import Final

import pydantic

from switchyard.services.settings.gateway import (
    Access,
    Compat,
    DeadLetters,
    Emp,
    Gateway,
    Ilios,
    Live,
    Octopoid,
    Reading,
    Tasks,
)
from switchyard.services.settings.jobs import Batches, Files, Lanes, Schedules, Submission, Tenants, Workflows
from switchyard.services.settings.object_storage import S3
from switchyard.services.settings.parts import Broker, General, Keeper, Metrics, Projector, Retention, Servers
from switchyard.services.settings.stream_sizes import StreamSizes
from switchyard.services.settings.values import Table
from switchyard.services.settings.workers import Claims, Connectors, Leases, Worker


class Settings(
    General, Broker, StreamSizes, Gateway, Access, Leases, Claims, Submission, Lanes, Tenants, Schedules, Workflows, Batches,
    Files, S3, Reading, DeadLetters, Live, Worker, Connectors, Projector, Keeper, Retention, Servers, Octopoid, Tasks,
    Compat, Emp, Ilios, Metrics,
):  # fmt: skip
    """All settings of all processes; each process reads those that concern it.

    Made by hand, it reads neither a file nor the environment: `loading.load_settings` does.
    """

    model_config = pydantic.ConfigDict(defer_build=False)


TABLES: Final[dict[str, type[Table]]] = {
    "general": General,
    "broker": Broker,
    "streams": StreamSizes,
    "gateway": Gateway,
    "access": Access,
    "leases": Leases,
    "claims": Claims,
    "submission": Submission,
    "lanes": Lanes,
    "tenants": Tenants,
    "schedules": Schedules,
    "workflows": Workflows,
    "batches": Batches,
    "files": Files,
    "s3": S3,
    "reading": Reading,
    "dead_letters": DeadLetters,
    "live": Live,
    "worker": Worker,
    "connectors": Connectors,
    "projector": Projector,
    "keeper": Keeper,
    "retention": Retention,
    "servers": Servers,
    "octopoid": Octopoid,
    "tasks": Tasks,
    "compat": Compat,
    "emp": Emp,
    "ilios": Ilios,
    "metrics": Metrics,
}
"""By the name of the table in the file; a test holds them against the bases of `Settings`."""
WHOLE: Final = "connectors"
"""The table that is the value of the setting of its name: a connector has a table within it."""
HOME: Final = {name: table for table, section in TABLES.items() for name in section.model_fields}
"""The table of each setting, in the order in which settings are shown."""
