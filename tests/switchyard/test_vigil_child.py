"""How the process beside a REST worker asks the gateway: to the same place, by the same certificates."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from switchyard._vigil.child import Gateway

TIMEOUT_S = 30.0


def certificate(path: Path) -> Path:
    """A key and its own certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextlib.asynccontextmanager
async def answering(body: str, *, status: int = 200, tls: Path | None = None) -> AsyncIterator[str]:
    """A gateway behind a path that answers so, if it is asked as it should be; its URL."""

    async def answer(request: web.Request) -> web.Response:
        asked = request.headers["Authorization"], request.headers["X"], await request.read()
        assert asked == ("Bearer t", "1", b'{"lease_s": 3}')
        return web.Response(text=body, status=status)

    app = web.Application()
    app.router.add_post("/base/v1/leases/l1/renew", answer)
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/base"
    finally:
        await runner.cleanup()


async def asked(url: str) -> tuple[int, dict[str, object]]:
    gateway = Gateway(url, {"Authorization": "Bearer t"}, TIMEOUT_S)
    return await asyncio.to_thread(gateway.post, "/v1/leases/l1/renew", b'{"lease_s": 3}', {"X": "1"})


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [(200, '{"a": 1}', {"a": 1}), (409, "[1]", {}), (502, "<html>", {}), (200, "", {})],
)
async def test_an_answer_is_a_status_and_an_object(status: int, body: str, found: object) -> None:
    async with answering(body, status=status) as url:
        assert await asked(url) == (status, found)


async def test_a_gateway_that_is_not_there_is_an_error() -> None:
    async with answering("{}") as url:
        pass
    with pytest.raises(OSError, match="refused"):
        await asked(url)


async def test_only_a_trusted_certificate_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = certificate(tmp_path / "own.pem"), certificate(tmp_path / "other.pem")
    async with answering("{}", tls=own) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
        assert await asked(url) == (200, {})
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        with pytest.raises(ssl.SSLCertVerificationError):
            await asked(url)
