"""A directory is published by one rename, or not at all."""

import os

import pytest

from lora_tune.errors import ArtifactError
from lora_tune.system.atomic_directory import make_draft, publish, publishing, resolve_output


def test_a_directory_is_not_visible_until_it_is_complete(tmp_path):
    final = tmp_path / "deep" / "final"
    with publishing(final) as draft:
        (draft / "file").write_text("x")
        assert not final.exists()
        assert draft.parent == final.parent  # so that a rename is enough
    assert (final / "file").read_text() == "x"
    assert list(final.parent.iterdir()) == [final]


def interrupt(draft):
    (draft / "file").write_text("x")
    raise KeyboardInterrupt


def test_nothing_is_left_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), publishing(tmp_path / "final") as draft:
        interrupt(draft)
    assert list(tmp_path.iterdir()) == []


def test_a_published_directory_has_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with publishing(tmp_path / "final"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "final").stat().st_mode & 0o777 == 0o750


def test_what_another_process_published_meanwhile_is_kept(tmp_path):
    final = tmp_path / "final"
    draft = make_draft(final)
    (draft / "file").write_text("mine")
    with publishing(final) as other:
        (other / "file").write_text("theirs")
    with pytest.raises(ArtifactError, match="Directory not empty") as caught:
        publish(draft, final)
    assert str(draft) in str(caught.value)
    assert (final / "file").read_text() == "theirs"
    assert (draft / "file").read_text() == "mine"


def test_a_file_is_not_an_output_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is not empty"):
        resolve_output(tmp_path / "file")
    assert resolve_output(tmp_path / "new") == tmp_path / "new"
