"""Files: inputs and artifacts, kept in the format of NATS's object store."""

from switchyard.services.files.chunks import DamagedFileError
from switchyard.services.files.info import FileInfo, StandsError, artifact_id
from switchyard.services.files.store import Files

__all__ = ["DamagedFileError", "FileInfo", "Files", "StandsError", "artifact_id"]
