"""Builds what is published, from one version: `make dist` to look at it, `make release` to publish it.

    python -m tools.release build      wheel, sdist and SHA256SUMS of the committed sources, into dist/
    python -m tools.release release    cuts the changelog, builds the same and an image, commits and tags

Nothing is pushed. Two builds of one commit give the same bytes: times are those of the version's day in the
changelog. The image is left out, and that is said, where neither docker nor podman answers; with `--image`
it is an error. What fails leaves the tree, the commits and the tags as they were.
"""

from __future__ import annotations

import argparse
import datetime as dt
import filecmp
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
UNRELEASED: Final = "## [Unreleased]\n"
RAISE: Final = "raise the version in pyproject.toml"
ANSWER_S: Final = 20.0
BUILD_S: Final = 600.0
IMAGE_S: Final = 3600.0
BUILDERS: Final = {"docker": ("version", "--format", "{{.Server.Version}}"), "podman": ("info",)}
"""What can build an image, and how each is asked whether it does."""
EARLIEST: Final = dt.date(1980, 1, 1)  # that a zip file can say


class ReleaseError(Exception):
    """There is nothing to release, or it cannot be built; the message says why."""


def version_of(tree: Path) -> str:
    """The version, which stands in pyproject.toml alone."""
    with (tree / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return version


def cut(changelog: str, version: str, day: dt.date) -> str:
    """The changelog with its unreleased section as that of a version, and an empty one before it.

    Raises:
        ReleaseError: it has no such section, the section is empty, or the version has one already.
    """
    if changelog.count(UNRELEASED) != 1:
        raise ReleaseError("CHANGELOG.md must have one section [Unreleased]")
    if section_of(changelog, version) is not None:
        raise ReleaseError(
            f"CHANGELOG.md has a section of {version} already: raise the version in pyproject.toml"
        )
    before, _, rest = changelog.partition(UNRELEASED)
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    if not re.search(r"^- \S", section, re.MULTILINE):
        raise ReleaseError("nothing is unreleased: the section [Unreleased] of CHANGELOG.md is empty")
    return f"{before}{UNRELEASED}\n## [{version}] - {day.isoformat()}\n{rest}"


def section_of(changelog: str, version: str) -> dt.date | None:
    """The day of a version's section, or None where there is none."""
    found = re.search(rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$", changelog, re.MULTILINE)
    return dt.date.fromisoformat(found[1]) if found else None


def build(tree: Path, target: Path, day: dt.date) -> None:
    """Build wheel and sdist of a tree twice, and keep them if both are the same.

    Raises:
        ReleaseError: the build fails, or it is not the same twice.
    """
    epoch = dt.datetime.combine(max(day, EARLIEST), dt.time(), dt.UTC).timestamp()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(int(epoch))}
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        for each in (first, second):
            command = [sys.executable, "-m", "hatchling", "build", "-d", str(each)]
            run(command, within=tree, environment=environment, timeout_s=BUILD_S)
        names = sorted(path.name for path in first.iterdir())
        _, differing, missing = filecmp.cmpfiles(first, second, names, shallow=False)
        if differing or missing:
            raise ReleaseError(f"two builds differ in {', '.join(differing + missing)}")
        target.mkdir(parents=True, exist_ok=True)
        for path in first.iterdir():
            shutil.copy(path, target)


def run(
    command: Sequence[str], *, within: Path, timeout_s: float, environment: dict[str, str] | None = None
) -> str:
    """What a program says.

    Raises:
        ReleaseError: it fails.
    """
    try:
        done = subprocess.run(
            command,
            cwd=within,
            env=environment,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReleaseError(str(error)) from None
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS of all other files, as `sha256sum --check` reads it."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != "SHA256SUMS":
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


def builder() -> str | None:
    """The program that can build an image here: docker or podman, whichever answers."""
    for name, question in BUILDERS.items():
        try:
            run([name, *question], within=ROOT, timeout_s=ANSWER_S)
        except ReleaseError:
            continue
        return name
    return None


def build_image(program: str, tree: Path, target: Path, version: str) -> None:
    """Build the image around the wheel in `target`, and save it beside the wheel.

    Raises:
        ReleaseError: it cannot be built.
    """
    tag = f"switchyard:{version}"
    with tempfile.TemporaryDirectory() as wheel:
        shutil.copy(next(target.glob("*.whl")), wheel)
        command = [program, "build", "--build-context", f"wheel={wheel}", "--tag", tag, str(tree)]
        run(command, within=tree, timeout_s=IMAGE_S)
    printed = run([program, "run", "--rm", tag, "--version"], within=tree, timeout_s=BUILD_S)
    if version not in printed.split():
        raise ReleaseError(f"the image says {printed.strip()!r} and not {version}")
    archive = target / f"switchyard-{version}-image.tar"
    run([program, "save", "--output", str(archive), tag], within=tree, timeout_s=IMAGE_S)


def git(tree: Path, *arguments: str) -> str:
    """What git says."""
    return run(["git", *arguments], within=tree, timeout_s=BUILD_S).strip()


def export(tree: Path, target: Path) -> None:
    """Copy what is committed, and nothing else that lies in the tree."""
    archive = target.with_suffix(".tar")
    git(tree, "archive", "--format=tar", f"--output={archive}", "HEAD")
    with tarfile.open(archive) as file:
        file.extractall(target, filter="data")
    archive.unlink()


def check_clean(tree: Path, version: str) -> None:
    """Refuse a tree that differs from its commit, and a version that was released.

    Raises:
        ReleaseError: it does, or was.
    """
    if changed := git(tree, "status", "--porcelain"):
        raise ReleaseError(f"the tree is not clean; commit or remove:\n{changed}")
    if git(tree, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} exists already: {RAISE}")


def release(tree: Path, target: Path, *, day: dt.date, needs_image: bool) -> list[str]:
    """Cut the changelog, build everything, commit and tag; what to say about it.

    Raises:
        ReleaseError: something is wrong; nothing has changed then.
    """
    version = version_of(tree)
    check_clean(tree, version)
    changelog = cut((tree / "CHANGELOG.md").read_text(), version, day)
    program = builder()
    if needs_image and program is None:
        raise ReleaseError("no image can be built: neither docker nor podman answers here")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source"), Path(folder, "made")
        export(tree, source)
        (source / "CHANGELOG.md").write_text(changelog)
        build(source, made, day)
        if program is not None:
            build_image(program, source, made, version)
        write_checksums(made)
        record(tree, changelog, version)
        replace(target, made)
    said = [f"{version} is commit {git(tree, 'rev-parse', '--short', 'HEAD')}, tag v{version}: push both"]
    if program is None:
        said.append("NO IMAGE was built: neither docker nor podman answers here")
    return said


def record(tree: Path, changelog: str, version: str) -> None:
    """Commit the changelog and tag that, or leave the tree as it was.

    Raises:
        ReleaseError: git refuses.
    """
    before = git(tree, "rev-parse", "HEAD")
    (tree / "CHANGELOG.md").write_text(changelog)
    try:
        git(tree, "commit", "--quiet", "--message", f"Release {version}", "--", "CHANGELOG.md")
        git(tree, "tag", "--annotate", f"v{version}", "--message", f"Switchyard {version}")
    except ReleaseError:
        git(tree, "reset", "--quiet", "--hard", before)  # it was clean
        raise


def replace(target: Path, made: Path) -> None:
    """Put what was made in the place of what an earlier run left."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(made, target)


def build_committed(tree: Path, target: Path) -> list[str]:
    """Build wheel and sdist of the commit; what to say about it.

    Raises:
        ReleaseError: the build fails.
    """
    version = version_of(tree)
    day = section_of((tree / "CHANGELOG.md").read_text(), version)
    if day is None:  # not released yet
        day = dt.datetime.fromtimestamp(int(git(tree, "log", "-1", "--format=%ct")), dt.UTC).date()
    said = []
    if git(tree, "status", "--porcelain"):
        said.append("the tree is not clean: built is what is committed")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source"), Path(folder, "made")
        export(tree, source)
        build(source, made, day)
        write_checksums(made)
        replace(target, made)
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 1 where it fails."""
    parser = argparse.ArgumentParser(prog="release", description="Build what is published.")
    parser.add_argument("what", choices=["build", "release"])
    parser.add_argument("--image", action="store_true", help="fail where no image can be built")
    chosen = parser.parse_args(arguments)
    target = ROOT / "dist"
    today = dt.datetime.now(dt.UTC).date()
    try:
        if chosen.what == "build":
            said = build_committed(ROOT, target)
        else:
            said = release(ROOT, target, day=today, needs_image=chosen.image)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print((target / "SHA256SUMS").read_text(), end="")
    for line in said:
        print(f"release: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
