"""Who gets in: tokens, keys, roles, revocation."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from switchyard.events.errors import InvalidError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.jwt import TokenVerifier, load_or_create_secrets, mint, rotate_secrets
from switchyard.services.access.revocations import REVOKED, Revocations, revoke
from switchyard.services.ids import new_id
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

GOOD = {"sub": "ann", "tenant": "acme", "roles": ["viewer"], "jti": "t1", "exp": 4e9}


def verifier(data_dir: Path, *keys: Path, **names: str | None) -> TokenVerifier:
    return TokenVerifier(data_dir, keys, issuer=names.get("issuer"), audience=names.get("audience"))


def refused(checker: TokenVerifier, token: str) -> str:
    with pytest.raises(UnauthenticatedError) as error:
        checker.verify(token)
    assert token not in error.value.message
    return error.value.code


def pem(path: Path, key: Any) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


# --- Secrets


def test_secret_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first = load_or_create_secrets(tmp_path)
    assert load_or_create_secrets(tmp_path) == first
    assert len(first) == 1
    assert len(first[0]) >= 32
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]


def test_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_or_create_secrets(tmp_path)
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(InvalidError, match="0600"):
        load_or_create_secrets(tmp_path)


def test_short_secret_is_refused(tmp_path: Path) -> None:
    load_or_create_secrets(tmp_path)
    (tmp_path / "secret").write_text("short\n")
    with pytest.raises(InvalidError, match="32"):
        load_or_create_secrets(tmp_path)


def test_rotation_keeps_the_secret_before_and_drops_older_ones(tmp_path: Path) -> None:
    tokens = []
    for _ in range(3):
        tokens.append(mint(load_or_create_secrets(tmp_path)[0], tenant="acme", roles=["viewer"], ttl_s=60))
        rotate_secrets(tmp_path)
    tokens.append(mint(load_or_create_secrets(tmp_path)[0], tenant="acme", roles=["viewer"], ttl_s=60))
    checker = verifier(tmp_path)
    assert [refused(checker, token) for token in tokens[:2]] == ["token_invalid"] * 2
    assert [checker.verify(token).tenant for token in tokens[2:]] == ["acme"] * 2


# --- Tokens


def test_minted_token_says_what_was_asked_for(tmp_path: Path) -> None:
    secret = load_or_create_secrets(tmp_path)[0]
    token = mint(secret, tenant="acme", roles=["submitter", "worker"], ttl_s=60, subject="ann")
    claims = verifier(tmp_path).verify(token)
    assert (claims.sub, claims.tenant, claims.roles) == ("ann", "acme", ("submitter", "worker"))
    assert 59 <= claims.exp - time.time() <= 61
    wrongs: list[dict[str, Any]] = [
        {"tenant": "Acme"}, {"roles": ["king"]}, {"roles": []}, {"subject": "a\r\nb"}
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(InvalidError):
            mint(secret, **{"tenant": "acme", "roles": ["viewer"], "ttl_s": 60, **wrong})


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None}, {"jti": None}, {"sub": None}, {"tenant": None}, {"roles": None}, {"roles": "admin"},
        {"roles": ["king"]}, {"tenant": "Acme"}, {"tenant": "acme\n"}, {"jti": "a.b"}, {"jti": "*"},
        {"sub": "a\r\nX: y"}, {"nbf": 3.9e9}, {"exp": "soon"}, {"aud": "somebody"},
    ],
)  # fmt: skip
def test_token_with_a_missing_or_wrong_claim_is_invalid(tmp_path: Path, changes: dict[str, Any]) -> None:
    secret = load_or_create_secrets(tmp_path)[0]
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    assert refused(verifier(tmp_path), jwt.encode(claims, secret)) == "token_invalid"


def test_expired_token_is_distinguished(tmp_path: Path) -> None:
    secret = load_or_create_secrets(tmp_path)[0]
    assert refused(verifier(tmp_path), jwt.encode({**GOOD, "exp": 1}, secret)) == "token_expired"


def test_token_without_a_signature_is_invalid(tmp_path: Path) -> None:
    load_or_create_secrets(tmp_path)
    checker = verifier(tmp_path)
    assert refused(checker, jwt.encode(GOOD, "", algorithm="none")) == "token_invalid"
    assert refused(checker, jwt.encode(GOOD, "x" * 40)) == "token_invalid"
    for garbage in ("x.", "x", "a.b.c", "\u00e4.b.c", "." * 5000):
        assert refused(checker, garbage) == "token_invalid"


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [
        ("RS256", lambda: rsa.generate_private_key(65537, 2048)),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
def test_public_key_verifies_only_by_its_own_algorithm(tmp_path: Path, algorithm: str, make: Any) -> None:
    key = make()
    path = pem(tmp_path / "key.pem", key)
    checker = verifier(tmp_path, path)
    assert checker.verify(jwt.encode(GOOD, key, algorithm=algorithm)).tenant == "acme"
    assert refused(checker, jwt.encode(GOOD, make(), algorithm=algorithm)) == "token_invalid"
    # The classic confusion: the public key's bytes used as an HMAC secret.
    head = base64.urlsafe_b64encode(orjson.dumps({"alg": "HS256", "typ": "JWT"})).rstrip(b"=")
    body = base64.urlsafe_b64encode(orjson.dumps(GOOD)).rstrip(b"=")
    sign = jwt.get_algorithm_by_name("HS256").sign(head + b"." + body, path.read_bytes())
    forged = b".".join([head, body, base64.urlsafe_b64encode(sign).rstrip(b"=")]).decode()
    assert refused(checker, forged) == "token_invalid"


def test_weak_or_unknown_key_is_refused(tmp_path: Path) -> None:
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(InvalidError, match="key"):
            verifier(tmp_path, pem(tmp_path / "key.pem", key))
    with pytest.raises(InvalidError, match="PEM"):
        verifier(tmp_path, tmp_path / "missing.pem")


def test_issuer_and_audience_are_checked_where_set(tmp_path: Path) -> None:
    secret = load_or_create_secrets(tmp_path)[0]
    checker = verifier(tmp_path, issuer="idp", audience="switchyard")
    assert checker.verify(jwt.encode({**GOOD, "iss": "idp", "aud": "switchyard"}, secret)).sub == "ann"
    assert refused(checker, jwt.encode({**GOOD, "iss": "idp"}, secret)) == "token_invalid"
    assert refused(checker, jwt.encode({**GOOD, "iss": "x", "aud": "switchyard"}, secret)) == "token_invalid"


# --- At the gateway


async def test_nobody_gets_in_without_a_token_that_counts(api: Gateway) -> None:
    paths = [
        "/v1/jobs",
        f"/v1/jobs/{new_id()}",
        "/v1/workers",
        "/v1/queues",
        "/metrics",
        "/v1/nothing",
        "/nothing",
    ]
    secret = load_or_create_secrets(api.settings.data_dir)[0]
    expired = jwt.encode({**GOOD, "exp": 1}, secret)
    cases = [
        ({}, "token_missing"),
        ({"Authorization": "Basic dTpw"}, "token_invalid"),
        ({"Authorization": "Bearer x"}, "token_invalid"),
        ({"Authorization": f"Bearer {expired}"}, "token_expired"),
    ]
    for headers, code in cases:
        for path in paths:
            async with api.http.get(api.url + path, headers=headers) as response:
                problem = orjson.loads(await response.read())
                assert (response.status, problem["code"]) == (401, code), path
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert expired not in str(problem)
    for path in paths:  # never in a URL
        async with api.http.get(f"{api.url}{path}?token={api.token()}") as response:
            assert response.status == 401


async def test_health_needs_no_token(api: Gateway) -> None:
    for path in ("/healthz", "/readyz"):
        async with api.http.get(api.url + path) as response:
            assert response.status == 200


async def test_scheme_is_read_in_any_case(api: Gateway) -> None:
    async with api.http.get(
        api.url + "/v1/jobs", headers={"authorization": f"bearer {api.token()}"}
    ) as found:
        assert found.status == 200


async def test_missing_role_is_named(api: Gateway) -> None:
    for role in ("viewer", "worker", "reviewer"):
        token = api.token(role)
        answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=token)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        assert "submitter" in answer.json["detail"]
        assert (await api.get("/v1/jobs", token=token)).status == 200
    for role in ("submitter", "admin"):
        assert (await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=api.token(role))).status == 201


async def test_token_that_expires_while_it_is_remembered_is_refused(api: Gateway) -> None:
    token = api.token(ttl_s=0.5)
    expires_at = jwt.decode(token, options={"verify_signature": False})["exp"]
    assert (await api.get("/v1/jobs", token=token)).status == 200
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await api.get("/v1/jobs", token=token)).status == 200:
            await asyncio.sleep(0.02)
    assert time.time() >= expires_at
    assert (answer.status, answer.json["code"]) == (401, "token_expired")


async def test_revoked_token_is_refused_by_every_gateway(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as two,
    ):
        for api in (one, two):
            claims = {**GOOD, "jti": f"shared-{one.tenant}", "exp": time.time() + 600}
            secret = load_or_create_secrets(api.settings.data_dir)[0]
            token = jwt.encode(claims, secret)
            assert (await api.get("/v1/jobs", token=token)).status == 200
        await revoke(one.publisher, str(claims["jti"]), expires_at=float(str(claims["exp"])), by="user:ann")
        for api in (one, two):
            token = jwt.encode(claims, load_or_create_secrets(api.settings.data_dir)[0])
            async with asyncio.timeout(DEADLINE_S):
                while (answer := await api.get("/v1/jobs", token=token)).status == 200:
                    pass
            assert (answer.status, answer.json["code"]) == (401, "token_revoked")
        assert (await one.get("/v1/jobs")).status == 200


async def test_revocation_is_known_from_the_first_request_on_until_its_entry_goes(api: Gateway) -> None:
    lasting, brief = f"l-{api.tenant}", f"b-{api.tenant}"
    await revoke(api.publisher, lasting, expires_at=time.time() + 600, by="user:ann")
    await revoke(api.publisher, brief, expires_at=time.time() - 5, by="user:ann")
    known = Revocations(api.nc, timeout_s=20)
    await known.load()
    assert lasting in known
    assert brief in known
    assert "other" not in known
    following = asyncio.create_task(known.run())
    # What the broker itself writes when the time is over.
    await api.publisher.publish(REVOKED.subject(brief), b"", {"Nats-Marker-Reason": "MaxAge"})
    async with asyncio.timeout(DEADLINE_S):
        while brief in known:
            await api.nc.flush()
    assert lasting in known
    following.cancel()
    await asyncio.wait([following])


async def test_rotated_secret_is_taken_up_without_a_restart(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.access.jwt.RELOAD_S", 0)
    oldest = api.token()
    assert (await api.get("/v1/jobs", token=oldest)).status == 200
    rotate_secrets(api.settings.data_dir)
    assert (await api.get("/v1/jobs", token=api.token())).status == 200
    assert (await api.get("/v1/jobs", token=oldest)).status == 200
    rotate_secrets(api.settings.data_dir)
    assert (await api.get("/v1/jobs", token=oldest)).status == 401
