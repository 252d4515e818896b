"""`push`: uploads a verified adapter or baseline to the Hub: its manifest's files and its card."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from lora_tune.artifacts.card_text import REPOSITORY
from lora_tune.artifacts.manifest import CARD_FILE, MANIFEST_FILE
from lora_tune.artifacts.saved_model import SavedModel, find_model
from lora_tune.commands.output import show, show_part
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_adapter, add_verb
from lora_tune.errors import ArtifactError, first_line
from lora_tune.report.tables import format_table, format_warnings

# Where the Hub or the connection fails; files that the Hub has already are not sent again.
ATTEMPTS = 3
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Upload:
    """The files to upload, and the repository that receives them."""

    repository: str  # owner/name
    files: dict[str, bytes]
    warnings: list[str]
    noun: str  # adapter or baseline


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `push` to the command line."""
    parser = add_verb(verbs, "push", "upload an adapter or a baseline to the Hub")
    add_adapter(parser)
    parser.add_argument("repository", metavar="REPO_ID", help="owner/name")
    parser.add_argument(
        "--private", action="store_true", help="make the repository private, if it is new"
    )
    parser.add_argument(
        "--revision", metavar="BRANCH", help="created if it does not exist (default: main)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be uploaded, without uploading"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Print what is uploaded, upload it, and print how to use it."""
    prepare_process()
    upload = prepare_upload(options.adapter, options.repository)
    show_part(upload_table(upload))
    if options.dry_run:
        show("Dry run: nothing was uploaded.")
        return
    url = push_upload(upload, private=options.private, revision=options.revision)
    show(f"Pushed: {url}")
    revision = f"@{options.revision}" if options.revision else ""
    show(f'Use it: lora-tune predict {upload.repository}{revision} --text "..."')


def prepare_upload(source: str | Path, repository: str) -> Upload:
    """Verify an adapter or a baseline and read its files; uploads nothing.

    Args:
        source: its directory or a Hub ID.
        repository: owner/name.

    Raises:
        ArtifactError: it is damaged, or the repository's name is not `owner/name`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ArtifactError(
            f"{repository}: not a valid repository name: {first_line(error)}"
        ) from None
    if "/" not in repository:
        raise ArtifactError(f"{repository}: expected owner/name, such as me/{repository}")
    saved = find_model(source)
    names = [MANIFEST_FILE, *saved.manifest.files]
    files = {name: (saved.folder / name).read_bytes() for name in names}
    card = _read_card(saved.folder)
    if card is not None:
        files[CARD_FILE] = card.replace(REPOSITORY, repository).encode()
    return Upload(repository, dict(sorted(files.items())), _warnings(saved), saved.manifest.noun)


def push_upload(upload: Upload, *, private: bool, revision: str | None) -> str:
    """Upload files in one commit; a missing repository or branch is created.

    Args:
        upload: the files.
        private: whether a new repository is private; an existing public one is refused then.
        revision: a branch; None for main.

    Returns:
        The URL of the commit.

    Raises:
        ArtifactError: there is no token or no permission, or the Hub cannot be reached.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    where = f"{upload.repository} on {constants.ENDPOINT}:"
    if get_token() is None:
        raise ArtifactError(
            f"{where} found no token, expected one: run `hf auth login` or set HF_TOKEN"
        )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _commit(upload, private, revision)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status < 500 or attempt == ATTEMPTS:
                raise ArtifactError(
                    f"{where} {_describe_refusal(status, error, upload.noun)}"
                ) from None
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OfflineModeIsEnabled) or isinstance(
                error.__cause__, HfHubHTTPError
            ):
                # Such as invalid metadata in the card, which the Hub checks before all else.
                raise ArtifactError(f"{where} nothing was uploaded: {_one_line(error)}") from None
            # A RuntimeError comes after the client's own attempts.
            if isinstance(error, RuntimeError) or attempt == ATTEMPTS:
                cause = first_line(error.__cause__ or error)
                raise ArtifactError(
                    f"{where} the connection failed ({cause}); the local {upload.noun} is "
                    "unchanged: run the same command again"
                ) from None
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("every attempt returns or raises")


def upload_table(upload: Upload) -> str:
    """Format the files to upload with their bytes, and warnings about them."""
    sizes = {name: len(content) for name, content in upload.files.items()}
    rows = [[name, f"{size:,}"] for name, size in [*sizes.items(), ("total", sum(sizes.values()))]]
    table = format_table(rows, [f"to {upload.repository}", "bytes"])
    return "\n".join([table, *format_warnings(upload.warnings)])


def _commit(upload: Upload, private: bool, revision: str | None) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    hub = HfApi()
    # None: the default of the owner's settings, which may be private.
    hub.create_repo(upload.repository, private=private or None, exist_ok=True)
    if private and not hub.repo_info(upload.repository).private:
        raise ArtifactError(
            f"{upload.repository}: exists and is public, expected a private repository; make it "
            "private on the Hub, or choose another name"
        )
    if revision is not None:
        hub.create_branch(upload.repository, branch=revision, exist_ok=True)
    commit = hub.create_commit(
        upload.repository,
        [CommitOperationAdd(name, content) for name, content in upload.files.items()],
        commit_message=f"Add {upload.noun} with lora_tune",
        revision=revision,
    )
    return str(commit.commit_url)


def _describe_refusal(status: int, error: Exception, noun: str) -> str:
    """Describe an HTTP error of the Hub, and what to do."""
    if status == 401:
        return "the token is invalid: run `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 403:
        return "the token has no write access: use one that has, or a repository of your own"
    if status >= 500:
        return f"HTTP {status}; the local {noun} is unchanged: run the same command again"
    return f"HTTP {status}: {first_line(error)}"


def _one_line(error: Exception) -> str:
    """Join the lines of a client's message."""
    return " ".join(str(error).split())


def _read_card(folder: Path) -> str | None:
    """Read the model card, which has no hash; a link must stay in the folder or the Hub's cache."""
    card = folder / CARD_FILE
    if not card.is_file():
        return None
    cache = folder.resolve().parent.parent / "blobs"  # the target of links in a Hub snapshot
    if card.resolve().parent not in (folder.resolve(), cache):
        raise ArtifactError(
            f"{card}: links to {card.resolve()}, expected a file in the same directory"
        )
    try:
        return card.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{card}: is not UTF-8: {error}") from None


def _warnings(saved: SavedModel) -> list[str]:
    base = saved.manifest.base
    if base is not None and Path(base.name).is_absolute():
        return [
            f"The base model is the local folder {base.name}, which the {saved.manifest.noun} "
            "names: others need a copy, and its path as --base."
        ]
    return []
