"""What a folder of models keeps, gives away and never touches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from switchyard.services.connectors.comfyui.models import folder as folders
from switchyard.services.connectors.comfyui.models import manifest as manifests
from switchyard.services.connectors.comfyui.models.faults import FetchError, GoneError
from switchyard.services.connectors.comfyui.models.folder import ModelsFolder, release
from switchyard.services.connectors.supply import Order
from tests.connectors.comfyui.models.file_server import folder_at


def order(name: str, size_bytes: int = 100, **fields: object) -> Order:
    values: dict[str, object] = {
        "folder": "loras", "name": name, "claim": "c", "revision": 1, "url": "http://h/", "sha256": "0" * 64,
        "size_bytes": size_bytes,
    }  # fmt: skip
    return Order(**values | fields)  # type: ignore[arg-type]


def arrived(folder: ModelsFolder, one: Order, *, used: bool = True) -> Path:
    """A file that was fetched, and that a job has used."""
    folder.begin(one)
    folder.part(one).write_bytes(b"x" * one.size_bytes)
    folder.land(one)
    if used:
        release(folder.hold([one.place]))
    return folder.final(one.place)


def test_the_least_used_one_goes_first(tmp_path: Path) -> None:
    hidden: list[str] = []
    folder = folder_at(tmp_path, limit_bytes=250, hide=hidden.append)
    a, b = (arrived(folder, order(f"{name}.safetensors")) for name in "ab")
    release(folder.hold([("loras", "a.safetensors")]))
    folder.make_room(order("c.safetensors"), 100)
    assert (a.exists(), b.exists()) == (True, False)
    assert hidden == ["loras/b.safetensors"]


def test_the_order_of_use_outlives_a_restart(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, limit_bytes=250)
    a, b = (arrived(folder, order(f"{name}.safetensors")) for name in "ab")
    release(folder.hold([("loras", "a.safetensors")]))
    folder_at(tmp_path, limit_bytes=250).make_room(order("c.safetensors"), 100)
    assert (a.exists(), b.exists()) == (True, False)


def test_what_a_job_uses_stays_even_beside_another_process(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, limit_bytes=150)
    a = arrived(folder, order("a.safetensors"))
    held = folder.hold([("loras", "a.safetensors")])
    other = folder_at(tmp_path, limit_bytes=150)
    with pytest.raises(FetchError, match="nothing that was fetched may go"):
        other.make_room(order("b.safetensors"), 100)
    assert a.exists()
    release(held)
    other.make_room(order("b.safetensors"), 100)
    assert not a.exists()
    with pytest.raises(GoneError):
        folder.hold([("loras", "a.safetensors")])


def test_what_goes_with_it_and_what_no_job_has_used_yet_stay(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, limit_bytes=150)
    arrived(folder, order("a.safetensors"))
    with pytest.raises(FetchError):
        folder.make_room(order("b.safetensors", keep=[("loras", "a.safetensors")]), 100)
    (tmp_path / "more").mkdir()
    fresh = folder_at(tmp_path / "more", limit_bytes=150)
    arrived(fresh, order("a.safetensors"), used=False)
    with pytest.raises(FetchError):
        fresh.make_room(order("b.safetensors"), 100)


def test_files_of_others_are_never_removed(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, limit_bytes=150)
    (tmp_path / "loras").mkdir()
    own = tmp_path / "loras" / "own.safetensors"
    own.write_bytes(b"x" * 1000)
    a = arrived(folder, order("a.safetensors"))
    a.unlink()
    a.write_bytes(b"y" * 100)  # the operator has put his own there
    folder.make_room(order("b.safetensors", 120), 120)
    assert own.exists()
    assert a.read_bytes() == b"y" * 100
    with pytest.raises(FetchError, match="was not fetched"):
        folder.begin(order("own.safetensors"))


def test_another_version_takes_the_place_of_the_one_that_was_fetched(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    arrived(folder, order("a.safetensors"))
    newer = order("a.safetensors", 50, sha256="1" * 64, revision=2)
    held = folder.hold([newer.place])
    with pytest.raises(FetchError, match="in use"):
        folder.begin(newer)
    release(held)
    assert arrived(folder, newer).stat().st_size == 50


@pytest.mark.parametrize("fails_at", ["before", "after"])
def test_an_end_while_it_takes_its_name_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    folder, one = folder_at(tmp_path), order("a.safetensors")
    folder.begin(one)
    folder.part(one).write_bytes(b"x" * 100)

    def ends(part: Path, final: Path) -> None:
        if fails_at == "after":
            os.link(part, final)
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "_link", ends)
    with pytest.raises(KeyboardInterrupt):
        folder.land(one)
    monkeypatch.undo()
    again = folder_at(tmp_path)
    known = again.tidy()
    if fails_at == "after":
        assert known.files["loras/a.safetensors"].state == "here"
        assert not again.part(one).exists()
    else:
        assert known.files == {}
        assert again.part(one).exists()
        assert "loras/a.safetensors" in known.parts
        again.land(one)
    assert again.final(one.place).exists()


def test_somebody_elses_file_is_not_replaced(tmp_path: Path) -> None:
    folder, one = folder_at(tmp_path), order("a.safetensors")
    folder.begin(one)
    folder.part(one).write_bytes(b"x" * 100)
    folder.final(one.place).write_bytes(b"own")
    with pytest.raises(FetchError):
        folder.land(one)
    assert folder.final(one.place).read_bytes() == b"own"
    assert folder.tidy().files == {}


def test_parts_that_nobody_wants_are_removed_for_room(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    old = order("old.safetensors")
    folder.begin(old)
    folder.part(old).write_bytes(b"x" * 10)
    folder.drop_parts()
    assert list((tmp_path / "loras").iterdir()) == []
    assert folder.tidy().parts == {}


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors", "/x.safetensors", "a/../../x.safetensors", "a\0.safetensors", "a\\b.safetensors",
        "C:x.safetensors", "x" * 300 + ".safetensors", ".hidden.safetensors", "a//b.safetensors", "a.sh", "",
        "a/./b.safetensors", "x" * 210 + ".safetensors", "a\n.safetensors", "d /b.safetensors",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(FetchError):
        folder_at(tmp_path).begin(order(name))
    assert not any(path.suffix == ".safetensors" for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("folder", ["custom_nodes", "Custom_Nodes", "configs", "..", "a/b", ""])
def test_a_folder_of_programs_is_none(tmp_path: Path, folder: str) -> None:
    with pytest.raises(FetchError):
        folder_at(tmp_path).begin(order("x.safetensors", folder=folder))


def test_links_of_the_operator_are_followed_and_links_within_are_not(tmp_path: Path) -> None:
    (tmp_path / "real" / "loras").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    (tmp_path / "real" / "checkpoints").symlink_to(tmp_path / "disk")
    (tmp_path / "models").symlink_to(tmp_path / "real")
    folder = folder_at(tmp_path / "models")
    assert arrived(folder, order("a.safetensors", folder="checkpoints")).parent == tmp_path / "disk"
    (tmp_path / "outside").mkdir()
    (tmp_path / "real" / "loras" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(FetchError, match="leads elsewhere"):
        folder.begin(order("sub/a.safetensors"))
    release(folder.hold([("checkpoints", "a.safetensors")]))


def test_a_manifest_that_cannot_be_read_removes_nothing(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, limit_bytes=150)
    a = arrived(folder, order("a.safetensors"))
    (tmp_path / manifests.FILE).write_bytes(b"\0 broken")
    folder.make_room(order("b.safetensors"), 100)
    assert a.exists()
    assert (tmp_path / manifests.UNREADABLE).exists()


def test_room_is_what_the_limit_and_the_disk_leave(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, limit_bytes=1234)
    assert folder.room_bytes(folder.tidy()) == 1234
    full = folder_at(tmp_path, margin_bytes=2**60)
    assert full.room_bytes(full.tidy()) == 0
    with pytest.raises(FetchError, match="larger than the limit"):
        folder.make_room(order("big.safetensors", 2000), 2000)
