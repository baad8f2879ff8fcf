"""Every setting and limit, with its default and unit: by section, from a file, the environment and options.

A setting is called alike everywhere: `settings.port` in the code, `SWITCHYARD_PORT` in the environment, and
`port` in the table of its section in the file. `docs/settings.md` is generated from this room.
"""

from switchyard.services.settings.sections import Settings
from switchyard.services.settings.values import GIB, KIB, MIB, SKEW_S

__all__ = ["GIB", "KIB", "MIB", "SKEW_S", "Settings"]
