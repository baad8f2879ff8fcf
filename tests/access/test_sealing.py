"""What is sealed is opened by whoever has the key, where it belongs, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchyard.events.errors import InvalidError
from switchyard.services.access.sealing import KEY_FILE, Box, Sealer, UnreadableError, rotate


def test_what_is_sealed_is_not_in_the_box_and_is_opened_again(tmp_path: Path) -> None:
    box = Sealer(tmp_path).seal(b"secret", b"here")
    assert b"secret" not in box.data
    assert Sealer(tmp_path).open(box, b"here") == b"secret"
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_box_of_another_place_or_that_was_changed_is_not_opened(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path)
    box = sealer.seal(b"secret", b"here")
    changed = Box(box.key, box.data[:-1] + bytes([box.data[-1] ^ 1]))
    for found, bound in ((box, b"there"), (changed, b"here"), (Box(box.key, b""), b"here")):
        with pytest.raises(UnreadableError):
            sealer.open(found, bound)


def test_keys_before_the_newest_still_open(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path)
    first = sealer.seal(b"secret", b"")
    assert rotate(tmp_path) == 2
    second = sealer.seal(b"secret", b"")
    assert second.key != first.key
    assert sealer.open(first, b"") == sealer.open(second, b"") == b"secret"
    for _ in range(8):
        rotate(tmp_path)
    with pytest.raises(UnreadableError, match="no key"):
        sealer.open(first, b"")


@pytest.mark.parametrize("content", ["", "zz\n", "00\n", "é"])
def test_a_file_that_holds_no_keys_seals_and_opens_nothing(tmp_path: Path, content: str) -> None:
    box = Sealer(tmp_path).seal(b"secret", b"")
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(UnreadableError):
        Sealer(tmp_path).open(box, b"")
    with pytest.raises(InvalidError, match="hex digits"):
        Sealer(tmp_path).seal(b"secret", b"")


def test_a_missing_file_opens_nothing_and_one_that_others_read_is_not_used(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path)
    box = sealer.seal(b"secret", b"")
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(UnreadableError, match="chmod 600"):
        Sealer(tmp_path).open(box, b"")
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(UnreadableError):
        sealer.open(box, b"")
