"""Directories that are written under a temporary name and appear complete, by one rename."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_tune.errors import ArtifactError

INCOMPLETE_SUFFIX = ".incomplete"


def resolve_output(output: Path) -> Path:
    """Resolve the path of `--output` and check that a directory can be published there.

    Raises:
        ArtifactError: the path is a file, a directory with content, or cannot be replaced.
    """
    path = output.expanduser().resolve()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ArtifactError(f"--output {output}: is not empty; name a new or empty directory")
    if path == Path.cwd() or path.is_mount():
        raise ArtifactError(f"--output {output}: cannot be replaced; name a directory inside it")
    return path


def make_draft(final: Path) -> Path:
    """Create the hidden directory, next to `final`, that will be renamed to it.

    Raises:
        ArtifactError: the parent directory cannot be created or written.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # A unique name, so that drafts of other processes and of earlier runs stay untouched.
        folder = tempfile.mkdtemp(
            prefix=f".{final.name}.", suffix=INCOMPLETE_SUFFIX, dir=final.parent
        )
    except OSError as error:
        raise ArtifactError(f"{final}: cannot be written: {error.strerror}") from None
    apply_umask(Path(folder))
    return Path(folder)


def apply_umask(path: Path) -> None:
    """Give a temporary file or directory the mode that the user's umask gives to a new one."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


@contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """Yield a directory to write to, and publish it if the block ends without an exception."""
    draft = make_draft(final)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    publish(draft, final)


def publish(draft: Path, final: Path) -> None:
    """Rename a complete draft to its final name; an empty directory of that name is replaced.

    Raises:
        ArtifactError: the draft cannot be renamed.
    """
    try:
        os.replace(draft, final)
    except OSError as error:
        raise ArtifactError(
            f"{final}: cannot be created by renaming {draft}, which is complete: {error.strerror}"
        ) from None
