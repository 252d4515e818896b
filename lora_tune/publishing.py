"""A directory written aside, in a hidden neighbour, and published by one rename."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_tune.errors import ArtifactError

SUFFIX = ".incomplete"


def resolve_output(output: Path) -> Path:
    """Find where `--output` leads, if a directory can be published there.

    Raises:
        ArtifactError: something is there, or it is a place that cannot be replaced.
    """
    path = output.expanduser().resolve()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ArtifactError(f"--output {output}: is not empty; name a new or empty directory")
    if path == Path.cwd() or path.is_mount():
        raise ArtifactError(f"--output {output}: cannot be replaced; name a directory inside it")
    return path


def make_draft(final: Path) -> Path:
    """Make the hidden directory that is to become `final`.

    Raises:
        ArtifactError: nothing can be written there.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: what another process is writing, or has kept, is left alone.
        folder = tempfile.mkdtemp(prefix=f".{final.name}.", suffix=SUFFIX, dir=final.parent)
    except OSError as error:
        raise ArtifactError(f"{final}: cannot be written: {error.strerror}") from None
    open_to_others(Path(folder))
    return Path(folder)


def open_to_others(path: Path) -> None:
    """Give a file or directory the mode that the user's umask asks for, not its owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


@contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """Give a directory to write in, and publish it when the block ends without an error."""
    draft = make_draft(final)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    publish(draft, final)


def publish(draft: Path, final: Path) -> None:
    """Rename a finished draft; an empty directory there is replaced.

    Raises:
        ArtifactError: it cannot be moved there.
    """
    try:
        os.replace(draft, final)
    except OSError as error:
        raise ArtifactError(
            f"{final}: it is complete, but cannot be moved there ({error.strerror}); it is in "
            f"{draft}"
        ) from None
