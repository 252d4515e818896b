"""The lifecycle of a run directory: written aside, published by one rename, linked as `latest`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lora_tune.system.atomic_directory import make_draft, publish, resolve_output

RUNS = Path("runs")


@dataclass(frozen=True)
class RunDirectory:
    """A run that is being written: `folder` is renamed to `final` when it is complete."""

    folder: Path
    final: Path
    latest: Path | None  # the link to move; None where the user named the directory

    @property
    def adapter(self) -> Path:
        """The adapter's directory."""
        return self.folder / "adapter"

    @property
    def baseline(self) -> Path:
        """The directory of the baseline, where the run saves one."""
        return self.folder / "baseline"

    @property
    def shown(self) -> Path:
        """The path under which the complete run is shown."""
        return self.latest or self.final

    @property
    def checkpoints(self) -> Path:
        """The folder of Trainer's checkpoints; not part of the finished run."""
        return self.folder / "checkpoints"


@contextmanager
def create_run_directory(recipe_name: str, output: Path | None) -> Iterator[RunDirectory]:
    """Create a run's directory, and publish it when the block ends without an error.

    After an error nothing is published; what was written stays only where there is a checkpoint,
    and a note on the error says where.

    Args:
        output: the run directory; None for `runs/<recipe>/<UTC time>`.

    Raises:
        ArtifactError: `output` exists and is not empty, or cannot be written.
    """
    final = resolve_output(output) if output is not None else _next_run(recipe_name)
    latest = final.parent / "latest" if output is None else None
    run = RunDirectory(make_draft(final), final, latest)
    try:
        yield run
    except BaseException as error:
        if any(run.checkpoints.glob("**/checkpoint-*")):
            error.add_note(f"The last checkpoints are in {run.checkpoints}")
        else:
            shutil.rmtree(run.folder, ignore_errors=True)
            if output is None and not any(run.folder.parent.iterdir()):
                run.folder.parent.rmdir()
        raise
    _publish(run)


def _next_run(recipe_name: str) -> Path:
    runs = RUNS / recipe_name
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    final, number = runs / time, 2
    while final.exists() or any(runs.glob(f".{final.name}.*")):
        final, number = runs / f"{time}-{number}", number + 1
    return final


def _publish(run: RunDirectory) -> None:
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    publish(run.folder, run.final)
    if run.latest is not None:
        link = run.folder.with_suffix(".link")
        link.symlink_to(run.final.name)
        os.replace(link, run.latest)
