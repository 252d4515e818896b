"""A run directory appears complete or not at all."""

import pytest

from lora_tune.artifacts.run_directory import create_run_directory
from lora_tune.errors import ArtifactError


@pytest.fixture(autouse=True)
def _work_in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_latest_moves_to_the_newest_complete_run(tmp_path):
    finals = []
    for _ in range(2):
        with create_run_directory("mine", None) as run:
            (run.folder / "file").write_text("x")
        finals.append(run.final)
        assert (tmp_path / "runs/mine/latest").resolve() == (tmp_path / run.final).resolve()
    assert finals[0] != finals[1]
    with pytest.raises(RuntimeError), create_run_directory("mine", None):
        raise RuntimeError
    assert (tmp_path / "runs/mine/latest").resolve() == (tmp_path / finals[1]).resolve()
    assert sorted(path.name for path in (tmp_path / "runs/mine").iterdir()) == sorted(
        ["latest", *(final.name for final in finals)]
    )


def test_output_may_be_new_or_empty_but_not_full(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "deep/new", "empty"):
        with create_run_directory("mine", tmp_path / name) as run:
            (run.folder / "file").write_text(name)
        assert (tmp_path / name / "file").read_text() == name
    with (
        pytest.raises(ArtifactError, match="is not empty"),
        create_run_directory("mine", tmp_path / "empty"),
    ):
        pass
    assert (tmp_path / "empty" / "file").read_text() == "empty"


def interrupt_after_a_checkpoint(output):
    with create_run_directory("mine", output) as run:
        (run.checkpoints / "checkpoint-3").mkdir(parents=True)
        raise KeyboardInterrupt


def test_a_failed_run_keeps_its_checkpoints_and_says_where(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupt_after_a_checkpoint(tmp_path / "out")
    (checkpoint,) = tmp_path.glob(".out.*.incomplete/checkpoints/checkpoint-3")
    assert str(checkpoint.parent) in caught.value.__notes__[0]
    assert not (tmp_path / "out").exists()


def test_a_complete_run_has_no_checkpoints(tmp_path):
    with create_run_directory("mine", tmp_path / "out") as run:
        (run.checkpoints / "checkpoint-3").mkdir(parents=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_concurrent_runs_are_independent(tmp_path):
    with create_run_directory("mine", None) as first, create_run_directory("mine", None) as second:
        assert first.folder != second.folder
        (first.folder / "file").write_text("first")
        (second.folder / "file").write_text("second")
    assert (first.final / "file").read_text() == "first"
    assert (second.final / "file").read_text() == "second"


@pytest.mark.parametrize("output", [".", "/"])
def test_a_directory_that_cannot_be_replaced_is_refused(tmp_path, output):
    from pathlib import Path

    with pytest.raises(ArtifactError), create_run_directory("mine", Path(output)):
        pass


def test_an_output_that_is_a_link_to_an_empty_directory(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with create_run_directory("mine", tmp_path / "link") as run:
        (run.folder / "file").write_text("x")
    assert (tmp_path / "real" / "file").read_text() == "x"
