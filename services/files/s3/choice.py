"""How a process reaches bytes in S3: by itself, or by addresses that others give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nats.aio.client import Client

from switchyard.services.files.info import FileInfo
from switchyard.services.files.place import Place
from switchyard.services.files.s3.addresses import AddressPlace
from switchyard.services.files.s3.client import S3
from switchyard.services.files.s3.place import S3Place


def remote_place(
    nc: Client, current: Callable[[str, str], Awaitable[FileInfo]], s3: S3 | None, *, timeout_s: float
) -> Place:
    """Where the bytes of files are that are not in the broker.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        s3: the bucket, in a process that has the settings of one.
        timeout_s: seconds to wait for any answer of the broker.
    """
    if s3 is None:
        return AddressPlace(nc, current, timeout_s=timeout_s)
    return S3Place(nc, current, s3, timeout_s=timeout_s)
