"""What `make release` does: with a repository that holds a small package, and no image."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.distribution.environments import ROOT
from tools import release
from tools.release import ReleaseError, cut, section_of

DAY = dt.date(2030, 2, 1)
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Something new.

## [0.0.1] - 2029-01-01

- The first.
"""
PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "small"
version = "0.1.0"
requires-python = ">=3.11"
"""


def test_cutting_dates_what_is_unreleased_and_opens_an_empty_section() -> None:
    after = cut(CHANGELOG, "0.1.0", DAY)
    assert after == CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [0.1.0] - 2030-02-01\n")
    assert section_of(after, "0.1.0") == DAY
    assert section_of(after, "0.2.0") is None


@pytest.mark.parametrize(
    ("changelog", "version", "why"),
    [
        (cut(CHANGELOG, "0.1.0", DAY), "0.2.0", "is empty"),
        (CHANGELOG.replace("- Something new.\n", ""), "0.1.0", "is empty"),
        (CHANGELOG.replace("- Something new.\n", "-\n"), "0.1.0", "is empty"),
        (CHANGELOG, "0.0.1", "raise the version"),
        (CHANGELOG.replace("[Unreleased]", "[Next]"), "0.1.0", "one section"),
        (CHANGELOG + CHANGELOG, "0.1.0", "one section"),
    ],
)
def test_a_changelog_that_has_nothing_to_cut_is_refused(changelog: str, version: str, why: str) -> None:
    with pytest.raises(ReleaseError, match=why):
        cut(changelog, version, DAY)


def test_our_own_changelog_can_be_cut_or_was() -> None:
    version, changelog = release.version_of(ROOT), (ROOT / "CHANGELOG.md").read_text()
    if section_of(changelog, version) is None:
        cut(changelog, version, DAY)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed tree."""
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "somebody")
        monkeypatch.setenv(f"{name}_EMAIL", "somebody@example.org")
    monkeypatch.setattr(release, "builder", lambda: None)
    tree = tmp_path / "tree"
    (tree / "small").mkdir(parents=True)
    (tree / "small" / "__init__.py").touch()
    (tree / "pyproject.toml").write_text(PYPROJECT)
    (tree / "CHANGELOG.md").write_text(CHANGELOG)
    release.git(tree, "init", "--quiet")
    release.git(tree, "add", "--all")
    release.git(tree, "commit", "--quiet", "--message", "Begin")
    return tree


def made(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.system
def test_a_release_is_committed_tagged_checked_and_can_be_built_again(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "dist"
    target.mkdir()
    (target / "small-0.0.1.tar.gz").touch()
    said = release.release(tree, target, day=DAY, needs_image=False)
    assert "NO IMAGE" in "".join(said)
    assert set(made(target)) == {"SHA256SUMS", "small-0.1.0-py3-none-any.whl", "small-0.1.0.tar.gz"}
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=target, check=True, capture_output=True)
    assert release.git(tree, "status", "--porcelain") == ""
    assert release.git(tree, "rev-parse", "v0.1.0^{commit}") == release.git(tree, "rev-parse", "HEAD")
    assert section_of((tree / "CHANGELOG.md").read_text(), "0.1.0") == DAY
    again = tmp_path / "again"
    release.build_committed(tree, again)
    assert made(again) == made(target)
    with pytest.raises(ReleaseError, match=r"tag v0\.1\.0 exists"):
        release.release(tree, target, day=DAY, needs_image=False)


def test_a_tree_that_is_not_clean_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "new.txt").touch()
    with pytest.raises(ReleaseError, match=r"new\.txt"):
        release.release(tree, tmp_path / "dist", day=DAY, needs_image=False)


def test_a_release_that_needs_an_image_is_refused_where_none_can_be_built(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="neither docker nor podman"):
        release.release(tree, tmp_path / "dist", day=DAY, needs_image=True)


@pytest.mark.system
def test_a_release_that_fails_changes_nothing(tree: Path, tmp_path: Path) -> None:
    before = release.git(tree, "rev-parse", "HEAD")
    for break_it in ("hook", "build"):
        if break_it == "hook":
            hook = tree / ".git" / "hooks" / "pre-commit"
            hook.parent.mkdir(exist_ok=True)
            hook.write_text("#!/bin/sh\nexit 1\n")
            hook.chmod(0o755)
        else:
            hook.unlink()
            shutil.rmtree(tree / "small")
            release.git(tree, "rm", "-rq", "--cached", "small")
            release.git(tree, "commit", "--quiet", "--message", "Take away")
            before = release.git(tree, "rev-parse", "HEAD")
        with pytest.raises(ReleaseError):
            release.release(tree, tmp_path / "dist", day=DAY, needs_image=False)
        assert release.git(tree, "rev-parse", "HEAD") == before
        assert release.git(tree, "status", "--porcelain") == ""
        assert release.git(tree, "tag", "--list") == ""
        assert not (tmp_path / "dist").exists()
