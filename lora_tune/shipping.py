"""A verified adapter on its way to the Hub: its own files, and nothing else."""

import time
from dataclasses import dataclass
from pathlib import Path

from lora_tune.artifact import Artifact, find_adapter
from lora_tune.card import REPOSITORY
from lora_tune.errors import ArtifactError, first_line
from lora_tune.manifest import CARD_FILE, MANIFEST_FILE

# Where the Hub fails or the connection breaks; what is there already is not sent again.
ATTEMPTS = 3
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Shipment:
    """What is to go up, and where to."""

    repository: str  # owner/name
    files: dict[str, bytes]
    caveats: list[str]


def pack_adapter(source: str | Path, repository: str) -> Shipment:
    """Verify an adapter and gather its files; nothing is sent.

    Raises:
        ArtifactError: the adapter is damaged, or the repository's name is not `owner/name`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ArtifactError(f"{repository}: no name of a repository: {first_line(error)}") from None
    if "/" not in repository:
        raise ArtifactError(f"{repository}: expected owner/name, such as me/{repository}")
    artifact = find_adapter(source)
    names = [MANIFEST_FILE, *artifact.manifest.files]
    files = {name: (artifact.folder / name).read_bytes() for name in names}
    card = _read_card(artifact.folder)
    if card is not None:
        files[CARD_FILE] = card.replace(REPOSITORY, repository).encode()
    return Shipment(repository, dict(sorted(files.items())), _caveats(artifact))


def push_shipment(shipment: Shipment, *, private: bool, revision: str | None) -> str:
    """Send a shipment up in one commit; the repository and its branch are made where needed.

    Args:
        private: who may see a new repository; a public one that is there already is refused.
        revision: a branch; None for main.

    Returns:
        The URL of the commit.

    Raises:
        ArtifactError: there is no token, no permission, or no way to the Hub.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    where = f"{shipment.repository}: on {constants.ENDPOINT}"
    if get_token() is None:
        raise ArtifactError(f"{where} a token is needed: `hf auth login`, or set HF_TOKEN")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _send(shipment, private, revision)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status < 500 or attempt == ATTEMPTS:
                raise ArtifactError(f"{where} {_refusal(status, error)}") from None
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OfflineModeIsEnabled) or isinstance(
                error.__cause__, HfHubHTTPError
            ):
                # Such as the card's metadata, refused before anything else is sent.
                raise ArtifactError(f"{where} nothing was sent: {_plain(error)}") from None
            # The client has tried an upload again by itself before it says RuntimeError.
            if isinstance(error, RuntimeError) or attempt == ATTEMPTS:
                cause = first_line(error.__cause__ or error)
                raise ArtifactError(
                    f"{where} the connection broke off ({cause}); the adapter here is untouched: "
                    "run the same command again"
                ) from None
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("every attempt returns or raises")


def _send(shipment: Shipment, private: bool, revision: str | None) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    hub = HfApi()
    # None: as its owner's settings have it, which may be private.
    hub.create_repo(shipment.repository, private=private or None, exist_ok=True)
    if private and not hub.repo_info(shipment.repository).private:
        raise ArtifactError(
            f"{shipment.repository}: is there already, and public; make it private on the Hub, or "
            "choose another name"
        )
    if revision is not None:
        hub.create_branch(shipment.repository, branch=revision, exist_ok=True)
    commit = hub.create_commit(
        shipment.repository,
        [CommitOperationAdd(name, content) for name, content in shipment.files.items()],
        commit_message="Add adapter with lora_tune",
        revision=revision,
    )
    return str(commit.commit_url)


def _refusal(status: int, error: Exception) -> str:
    if status == 401:
        return "the token is not accepted: `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 403:
        return "the token may not write there: use one with write access, or a name of your own"
    if status >= 500:
        return f"it answered {status}; the adapter here is untouched: run the same command again"
    return f"it answered {status}: {first_line(error)}"


def _plain(error: Exception) -> str:
    """Put what the client says of several lines into one."""
    return " ".join(str(error).split())


def _read_card(folder: Path) -> str | None:
    """Read the card, which no hash covers; a link may lead to the Hub's cache alone."""
    card = folder / CARD_FILE
    if not card.is_file():
        return None
    cache = folder.resolve().parent.parent / "blobs"  # where a snapshot's links lead
    if card.resolve().parent not in (folder.resolve(), cache):
        raise ArtifactError(f"{card}: is a link to {card.resolve()}, outside the adapter")
    try:
        return card.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{card}: is not UTF-8: {error}") from None


def _caveats(artifact: Artifact) -> list[str]:
    base = artifact.manifest.base.name
    if Path(base).is_absolute():
        return [
            f"The base is the local folder {base}, and the adapter says so: others need it, and "
            "name it with --base."
        ]
    return []
