"""S3, which may have the bytes of files."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field

from switchyard.services.settings.values import MIB, Count, Seconds, Table


class S3(Table):
    """The bytes of files in S3 or what speaks like it, in place of the broker; needs the extra `s3`."""

    s3_bucket: str | None = Field(
        default=None,
        description="Bucket that takes the bytes of new files; where it is not set, the broker does. Gateways, keepers "
        "and pushers need the same; workers that have it write and read by themselves",
    )
    s3_endpoint: str | None = Field(
        default=None, description="URL of the server, of any other than Amazon's: http://minio:9000"
    )
    s3_public_endpoint: str | None = Field(
        default=None,
        description="URL by which clients and workers reach the same server, in the addresses that they are given; "
        "`s3_endpoint` by default",
    )
    s3_region: str = Field(default="us-east-1", description="Region of the bucket")
    s3_access_key_id: pydantic.SecretStr | None = Field(
        default=None,
        description="Key id; where it is not set, what the machine has by its role or its files of Amazon's tools",
    )
    s3_secret_access_key: pydantic.SecretStr | None = Field(default=None, description="Secret of that key")
    s3_session_token: pydantic.SecretStr | None = Field(
        default=None, description="Token of that key, if it is a temporary one"
    )
    s3_path_style: bool | None = Field(
        default=None,
        description="Whether the bucket stands in the path and not in the host name; where it is not set, with "
        "`s3_endpoint` it does",
    )
    s3_prefix: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9/._-]*$")] = Field(
        default="switchyard/", description="What the keys of all objects begin with"
    )
    s3_part_bytes: Annotated[int, Field(ge=5 * MIB, le=64 * MIB)] = Field(
        default=8 * MIB,
        description="Size of the parts of an upload, in bytes; larger ones for files that need it",
    )
    s3_parts: Count = Field(default=16, description="Parts on their way at once, of all uploads of a process")
    s3_timeout_s: Seconds = Field(
        default=30.0, description="Seconds without a byte from the server after which a request is made again"
    )
    s3_tries: Annotated[int, Field(ge=1, le=20)] = Field(
        default=5, description="How often a request is made before S3 is taken for away"
    )
    s3_address_s: Annotated[float, Field(ge=1, le=7 * 86400)] = Field(
        default=900.0,
        description="Seconds that an address is good for by which a client loads a file up or down",
    )
