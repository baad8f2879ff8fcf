"""All profiles, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from switchyard.services.pusher.profiles.any_json import JsonProfile
from switchyard.services.pusher.profiles.cog.profile import CogProfile
from switchyard.services.pusher.profiles.openai.profile import OpenAIProfile
from switchyard.services.pusher.profiles.protocol import Profile
from switchyard.services.pusher.profiles.task import TaskProfile
from switchyard.services.records.servers.record import Server

PROFILES: Final[Mapping[str, Profile]] = {
    "task": TaskProfile(), "cog": CogProfile(), "openai": OpenAIProfile(), "json": JsonProfile(),
}  # fmt: skip


def profile_of(server: Server) -> Profile:
    """That of a server.

    Raises:
        KeyError: a newer gateway has registered it with one that is not known here.
    """
    return PROFILES[server.profile]
