"""Settings from options, the environment and a file: which comes first, and what is refused how."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from switchyard.services.cli.config.page import INTRODUCTION
from switchyard.services.settings import Settings
from switchyard.services.settings.errors import SHOWN, SettingsError
from switchyard.services.settings.file import MOST_BYTES
from switchyard.services.settings.loading import Loaded, load_file, load_settings
from switchyard.services.settings.secrets import SECRET, masked
from switchyard.services.settings.sections import HOME, TABLES
from switchyard.services.settings.values import Table

PASSWORD = "hunter2hunter2"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("SWITCHYARD_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "switchyard.toml"


def faults(file: Path, text: str | bytes) -> str:
    """What is said of a file."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as refused:
        load_file(file)
    return str(refused.value).replace(f"{file}", "FILE")


def test_every_setting_stands_in_one_table() -> None:
    assert set(HOME) == set(Settings.model_fields)
    assert sum(len(table.model_fields) for table in TABLES.values()) == len(HOME)
    assert {base for base in Settings.__mro__ if base.__base__ is Table} - {Settings} == set(TABLES.values())
    assert set(HOME) >= SECRET


def test_an_option_is_before_the_environment_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[gateway]\nport = 1\nhost = '::1'\n\n[leases]\nlease_s = 7\n[worker]\nslots = 3\n")
    monkeypatch.setenv("SWITCHYARD_PORT", "2")
    monkeypatch.setenv("SWITCHYARD_LEASE_S", "8")
    monkeypatch.setenv("SWITCHYARD_CONFIG", str(file))
    found = load_settings({"lease_s": 9.0, "nats_url": None})
    got = found.settings
    assert (got.port, got.host, got.lease_s, got.slots, got.nats_url) == (2, "::1", 9.0, 3, None)
    places = {name: (place.kind, str(place)) for name, place in found.places.items()}
    assert places == {
        "port": ("environment", "SWITCHYARD_PORT"),
        "lease_s": ("option", "--lease"),
        "host": ("file", f"{file}:3"),
        "slots": ("file", f"{file}:8"),
    }
    assert found.file == file
    assert load_file(file).settings.port == 1
    other = file.with_name("other.toml")
    other.write_text("")
    assert load_settings(config=other).settings.host == "127.0.0.1"
    monkeypatch.setenv("SWITCHYARD_CONFIG", "")
    assert load_settings().file is None


def test_a_file_says_what_the_environment_says_and_in_the_words_of_toml(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        "[gateway]\ntrusted_proxies = ['10.0.0.0/8', '::1']\nport = '81'\n[metrics]\nmetrics_public = true\n"
        "[access]\njwt_public_keys = ['a.pem']\ncors_origins = ['https://a.example']\n"
        "[general]\ndata_dir = 'd'\n[connectors.small]\nkind = 'convert'\nslots = 2\n"
    )
    found = load_file(file).settings
    for name, value in (
        ("TRUSTED_PROXIES", "10.0.0.0/8, ::1"), ("PORT", "81"), ("METRICS_PUBLIC", "true"), ("DATA_DIR", "d"),
        ("JWT_PUBLIC_KEYS", "a.pem"), ("CORS_ORIGINS", "https://a.example"),
        ("CONNECTORS", '{"small": {"kind": "convert", "slots": 2}}'),
    ):  # fmt: skip
        monkeypatch.setenv(f"SWITCHYARD_{name}", value)
    assert load_settings().settings == found
    monkeypatch.setenv("SWITCHYARD_CONNECTORS", '{"large": {}}')
    assert load_settings(config=file).settings.connectors == {"large": {}}
    assert type(found) is Settings


def test_all_that_is_wrong_is_said_at_once_with_setting_place_and_rule(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[gateway]\nport = 70000\nlease_s = 4\n")
    monkeypatch.setenv("SWITCHYARD_REPLICAS", "nine")
    monkeypatch.setenv("SWITCHYARD_SLOT", "1")
    with pytest.raises(SettingsError) as refused:
        load_settings({"slots": 0}, file)
    integer = "input should be a valid integer, unable to parse string as an integer"
    assert list(refused.value.faults) == [
        "there is no setting SWITCHYARD_SLOT; did you mean SWITCHYARD_SLOTS?",
        f"{file}:3: lease_s stands in [gateway] and belongs in [leases]",
        f"setting replicas, from SWITCHYARD_REPLICAS: {integer}, not 'nine'",
        f"setting port, from {file}:2: input should be less than or equal to 65535, not '70000'",
        "setting slots, from --slots: input should be greater than 0, not '0'",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gatway]\nport = 1", "FILE:1: there is no table [gatway]; did you mean [gateway]?"),
        ("[qqq]", "docs/settings.md"),
        ("[log]", "FILE:1: there is no table [log]"),
        ("port = 1", "FILE:1: port stands in no table and belongs in [gateway]"),
        ("prot = 1", "did you mean port in [gateway]?"),
        ("gateway.prot = 1", "FILE:1: there is no setting prot in [gateway]; did you mean port?"),
        ("[gateway]\nlease-s = 1", "FILE:2: there is no setting lease-s in [gateway]; did you mean lease_s"),
        ("[gateway]\nPORT = 1", "did you mean port?"),
        ("[gateway]\nqqqqqq = 1", "docs/settings.md"),
        ("gateway = 1", "[gateway] must be a table"),
        ("[[gateway]]\nport = 1", "[gateway] must be a table"),
        ("lanes = 1", "FILE:1: lanes stands in no table and belongs in [lanes]"),
        ("[worker]\nconnectors = {}", "FILE:2: connectors stands in [worker] and belongs in [connectors]"),
        ("[connectors]\nsmall = 1", "setting connectors, small, from FILE:1: input should be a valid dict"),
        (f"[connectors.a]\nx = {10**30}", "64-bit"),
        ("[gateway]\nport = true", "FILE:2: port in [gateway] takes neither true nor false"),
        ("[gateway]\nport = 1979-05-27", "setting port, from FILE:2: input should be a valid integer"),
        ("[leases]\nlease_s = inf", "setting lease_s, from FILE:2: "),
        ("[leases]\ndrain_grace_s = nan", "setting drain_grace_s, from FILE:2: "),
        ("[gateway]\nport = 1\nport = 2\n", "FILE is not TOML: Cannot overwrite a value (at line 3"),
        ("[gateway]\n[gateway]", "(at line 2"),
        ("port 1", "FILE is not TOML: "),
        ("\x00", "FILE is not TOML: "),
        ("x = " + "[" * 20_000, "FILE is nested too deeply"),
        ("[connectors]\n" + "a." * 3_000 + "a = 1", "from FILE:1: not to be written as JSON"),
        ("[gateway]\nport = " + "9" * 5_000, "FILE is not TOML: "),
        (b"[gateway]\nhost = '\xff'", "FILE:2 is not UTF-8"),
        (b"#" * (MOST_BYTES + 1), f"FILE has more than {MOST_BYTES} bytes"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_what_is_meant(file: Path, text: str | bytes, said: str) -> None:
    assert said in faults(file, text)


def test_a_file_that_is_no_file_of_settings_at_all_gets_few_words(file: Path) -> None:
    said = faults(file, "\n".join(f"k{number} = 1" for number in range(20_000)))
    assert len(said.splitlines()) == SHOWN + 2
    assert said.endswith(f"and {20_000 - SHOWN} more")
    assert len(faults(file, f"{'k' * 100_000} = 1")) < 1_000


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path, "is a directory"),
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path / "pipe", "is no regular file"),
        (Path("/dev/zero"), "is no regular file"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(SettingsError, match=said):
            load_file(path)


def test_no_message_says_a_secret(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        faults(file, f"[broker]\nnats_url = ['nats://u:{PASSWORD}@h']\n[connectors]\na = '{PASSWORD}'"),
        faults(file, f"[broker]\nnats_ur = 'nats://u:{PASSWORD}@h'\n[broke]\nx = '{PASSWORD}'"),
        faults(file, f"[broker]\nreplicas = 'nats://u:{PASSWORD}@h'"),
        faults(file, f"[broker]\nnats_url = 'nats://u:{PASSWORD}@h' x"),
    ]
    for name, value in (
        ("CONNECTORS", '{"a": '),
        ("CONNECTORS", "["),
        ("NATS_URLS", ""),
        ("REPLICAS", "redis://:"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"SWITCHYARD_{name}", f"{value}{PASSWORD}@h")
            with pytest.raises(SettingsError) as refused:
                load_settings()
        said.append(f"{refused.value}{refused.value.faults}")
    assert not [each for each in said if PASSWORD in each]
    file.write_text(f"[broker]\nnats_url = 'nats://u:{PASSWORD}@h'\n[connectors.a]\ntoken = '{PASSWORD}'")
    assert PASSWORD not in repr(load_file(file))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://u:p@h:4222", "nats://***@h:4222"),
        ("nats://token@h", "nats://***@h"),
        ("nats://u:p@a,nats://u:p@b", "nats://***@a,nats://***@b"),
        ("nats://u:p,/@p@a", "nats://***@a"),
        ("u:p@a", "***@a"),
        ("a,u:p@b", "***@b"),
        ({"a": {"password": "p", "API_KEY": ["p"], "slots": 1, "url": "http://u:p@h/?key=p"}},
         {"a": {"password": "***", "API_KEY": "***", "slots": 1, "url": "http://***@h/?key=***"}}),
        ({"a": {"headers": [{"Authorization": "p"}], "keys": "p", "model": "m"}},
         {"a": {"headers": [{"Authorization": "***"}], "keys": "***", "model": "m"}}),
        (None, None),
    ],
)  # fmt: skip
def test_what_is_secret_in_a_value_is_masked(value: object, shown: object) -> None:
    assert masked("nats_url", value) == shown
    assert masked("host", value) == value


def test_a_secret_that_everybody_can_read_is_warned_of(file: Path) -> None:
    def said(mode: int, text: str) -> Loaded:
        file.write_text(text)
        file.chmod(mode)
        return load_file(file)

    secret = "[broker]\nnats_url = 'nats://u:p@h'"
    assert "holds a secret" in said(0o644, secret).warnings[0]
    assert said(0o640, secret).warnings == []
    assert said(0o644, "[broker]\nnats_url = 'nats://h'").warnings == []


def test_what_kubernetes_sets_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("PORT", "tcp://10.0.0.1:8080"), ("GATEWAY_PORT", "udp://10.0.0.1:1"), ("SERVICE_HOST", "10.0.0.1"),
        ("PORT_8080_TCP_ADDR", "10.0.0.1"), ("METRICS_PORT", "tcp://10.0.0.1:9100"),
    ):  # fmt: skip
        monkeypatch.setenv(f"SWITCHYARD_{name}", value)
    assert load_settings().settings == Settings()
    monkeypatch.setenv("SWITCHYARD_PORT", "8081")
    assert load_settings().settings.port == 8081
    monkeypatch.setenv("SWITCHYARD_PORT", "tcp")
    with pytest.raises(SettingsError, match="SWITCHYARD_PORT"):
        load_settings()


def test_the_example_of_the_page_is_taken(file: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", INTRODUCTION, re.DOTALL)
    file.write_text(example)
    file.chmod(0o600)
    found = load_file(file)
    assert found.warnings == []
    assert (found.settings.lease_s, found.settings.connectors["large"]["kind"]) == (45, "convert")
    assert len(found.places) == 8
    assert all(place.line for place in found.places.values())


@pytest.mark.parametrize(
    ("text", "found"),
    [("", {}), ("acme/flux-1.1=images, x = y", {"acme/flux-1.1": "images", "x": "y"})],
)
def test_names_of_kinds_stand_between_commas(
    text: str, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWITCHYARD_COMPAT_KINDS", text)
    assert load_settings().settings.compat_kinds == found


@pytest.mark.parametrize(
    "text", ["a", "a=b,a=c", "=b", "a=", "a=No Kind", "a=b=c", '{"a": "b"}', "x" * 201 + "=b"]
)
def test_names_of_kinds_that_are_none_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_COMPAT_KINDS", text)
    with pytest.raises(SettingsError, match="SWITCHYARD_COMPAT_KINDS"):
        load_settings()
