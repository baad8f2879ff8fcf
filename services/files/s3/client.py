"""The client of S3, and what its errors mean.

The library is aiobotocore: aiohttp for the connections, as everywhere here, and of botocore the signatures,
the tries with growing pauses and the forms of S3's answers, which no lighter one has all of. It is loaded
with the first request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any, Final

import pydantic

from switchyard.events.errors import UnavailableError
from switchyard.services.distribution import how_to_install
from switchyard.services.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

RETRY_S: Final = 5.0
CONNECT_S: Final = 10.0
POOL: Final = 64
MOST_CHARS: Final = 300
MEANING: Final = {
    "AccessDenied": "the key may not do this",
    "AllAccessDisabled": "the key may not do this",
    "InvalidAccessKeyId": "there is no such access key",
    "SignatureDoesNotMatch": "the secret does not belong to the access key",
    "ExpiredToken": "the session token has expired",
    "NoSuchBucket": "there is no such bucket",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "PermanentRedirect": "the bucket is in another region, or behind another endpoint",
    "AuthorizationHeaderMalformed": "the bucket is in another region",
    "IllegalLocationConstraintException": "the bucket is in another region",
    "BadDigest": "bytes were changed on their way",
    "SlowDown": "it is asked too much",
}
"""By the codes of S3. Source: its page on error responses."""
GONE: Final = frozenset({"NoSuchKey", "404", "NoSuchUpload"})


class S3Error(UnavailableError):
    """S3 does not answer, or refuses; nothing is lost by that, and another try may succeed.

    Args:
        message: what it said, without any address that was signed.
        code: its own word for it, or "".
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message, retry_after_s=RETRY_S)
        self.code = code


class S3:
    """A bucket; its client is opened by the first request.

    Args:
        settings: those of S3, whose bucket must be set.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.s3_bucket is None:
            raise ValueError("there is no bucket")
        self.bucket = settings.s3_bucket
        self.settings = settings
        self.parts = asyncio.Semaphore(settings.s3_parts)
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[str | None, S3Client] = {}
        self._opening = asyncio.Lock()

    @classmethod
    def of(cls, settings: Settings) -> S3 | None:
        """The bucket of the settings, if they name one."""
        return None if settings.s3_bucket is None else cls(settings)

    async def aclose(self) -> None:
        """Close the connections; the next request would open them again."""
        self._clients.clear()
        await self._stack.aclose()

    async def client(self, *, public: bool = False) -> S3Client:
        """The library's client.

        Args:
            public: whether it is the one that signs addresses for others.

        Raises:
            S3Error: the library is not installed, or the settings lead nowhere.
        """
        endpoint = self.settings.s3_endpoint
        if public:
            endpoint = self.settings.s3_public_endpoint or endpoint
        async with self._opening:
            if (found := self._clients.get(endpoint)) is None:
                found = self._clients[endpoint] = await self._open(endpoint)
        return found

    async def _open(self, endpoint: str | None) -> S3Client:
        try:
            from aiobotocore.config import AioConfig  # noqa: PLC0415 - an extra, and slow to load
            from aiobotocore.session import get_session  # noqa: PLC0415
        except ImportError as error:
            raise S3Error(f"files lie in S3, and {how_to_install('s3')} brings what reads it") from error
        settings = self.settings
        path_style = settings.s3_path_style if settings.s3_path_style is not None else endpoint is not None
        config = AioConfig(
            signature_version="s3v4",
            connect_timeout=CONNECT_S,
            read_timeout=settings.s3_timeout_s,
            max_pool_connections=POOL,
            retries={"mode": "standard", "total_max_attempts": settings.s3_tries},
            s3={"addressing_style": "path" if path_style else "virtual"},
            # Others than Amazon's do not know the newer checksums; ours are in MD5 and SHA-256.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with said("to open"):
            opened: Any = get_session().create_client(
                "s3",
                endpoint_url=endpoint,
                region_name=settings.s3_region,
                aws_access_key_id=_secret(settings.s3_access_key_id),
                aws_secret_access_key=_secret(settings.s3_secret_access_key),
                aws_session_token=_secret(settings.s3_session_token),
                config=config,
            )
            client: S3Client = await self._stack.enter_async_context(opened)
        return client


@contextlib.contextmanager
def said(what: str, *, unless: Container[str] = ()) -> Iterator[None]:
    """What goes wrong in the block, as an `S3Error`.

    Args:
        what: the request, for the message: "to store a part".
        unless: codes of S3 that are as well as success.

    Raises:
        S3Error: it went wrong.
    """
    import aiohttp  # noqa: PLC0415
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004
        HTTPClientError,
    )

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in unless:
            return
        raise _refusal(what, error.response) from error
    except (HTTPClientError, ConnectionError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise S3Error(f"S3 does not answer {what}: {_short(error)}") from error
    except BotoCoreError as error:
        raise S3Error(f"S3 cannot be asked {what}: {_short(error)}") from error
    except (ValueError, KeyError, TypeError) as error:  # an answer that is none of S3's
        raise S3Error(f"S3 answers {what} with what cannot be read: {_short(error)}") from error


def _refusal(what: str, response: Any) -> S3Error:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    detail = MEANING.get(code) or str(response.get("Error", {}).get("Message", ""))
    return S3Error(f"S3 refuses {what}: {status} {code}, {detail}"[:MOST_CHARS], code)


def _secret(value: pydantic.SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _short(error: BaseException) -> str:
    """An error without the address that was signed."""
    return f"{type(error).__name__}: {error}".partition("?")[0][:MOST_CHARS]
