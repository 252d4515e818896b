"""Repositories on the Hugging Face Hub: revisions resolved and files downloaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lora_tune.errors import LoraTuneError, first_line

Kind = Literal["model", "dataset", "adapter"]

TIMEOUT_SECONDS = 10
IS_GATED = (
    "{where} this {kind} is gated: accept its terms on its page, then log in with `hf auth login`"
)
OFFLINE_ADVICE = {
    "model": "to work offline, set model.name to a local folder, or run the quickstart recipe",
    "dataset": "to work offline, set data.source to local files, or run the quickstart recipe",
    "adapter": "to work offline, name a local adapter directory",
}


class HubUnreachable(Exception):
    """The Hub did not answer a request; the local cache may still have the repository."""

    def explain(self, name: str, kind: Kind) -> str:
        """Format an error for a repository that the local cache does not have either."""
        from huggingface_hub import constants

        return (
            f"{name}: this {kind} cannot be fetched from {constants.ENDPOINT} ({self}) and is not "
            f"in the local cache; {OFFLINE_ADVICE[kind]}"
        )


@contextmanager
def offline() -> Iterator[None]:
    """Make huggingface_hub and datasets use only the local cache inside the block."""
    import datasets.config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def find_commit(name: str, *, kind: Kind, revision: str | None, error: type[LoraTuneError]) -> str:
    """Resolve a repository's revision to a commit, by one request without retries.

    Args:
        name: the repository's ID, `owner/name`.
        kind: of repository.
        revision: a branch, tag or commit; None for the main branch.
        error: the exception to raise.

    Raises:
        error: the repository or revision does not exist, or access to it is denied.
        HubUnreachable: the Hub does not answer, or answers with another error.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of the HTTP client, such as an unknown host or a timeout
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{name}: on {constants.ENDPOINT}"
    revision = revision or constants.DEFAULT_REVISION
    try:
        info = HfApi().repo_info(
            name,
            repo_type="dataset" if kind == "dataset" else "model",  # adapters are models on the Hub
            revision=revision,
            timeout=TIMEOUT_SECONDS,
        )
    except HFValidationError:
        raise error(
            f"{name}: no such file or folder, and not a valid Hub ID (owner/name)"
        ) from None
    except GatedRepoError:
        raise error(IS_GATED.format(where=where, kind=kind)) from None
    except RepositoryNotFoundError:
        raise error(
            f"{where} there is no such {kind}, or it is private: check the spelling, or log in "
            "with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise error(f"{where} this {kind} has no revision {revision!r}") from None
    except OfflineModeIsEnabled:
        raise HubUnreachable("offline mode is on: HF_HUB_OFFLINE") from None
    except HfHubHTTPError as cause:
        raise HubUnreachable(f"HTTP status {cause.response.status_code}") from None
    except (HTTPError, OSError) as cause:
        raise HubUnreachable(f"unreachable: {str(cause) or type(cause).__name__}") from None
    return str(info.sha)


def fetch_files(
    name: str,
    *,
    kind: Literal["model", "adapter"],
    revision: str | None,
    files: Sequence[str],
    error: type[LoraTuneError],
    advice: str = "",
) -> tuple[Path, str]:
    """Download a model repository's files, or find them in the local cache.

    Args:
        name: the repository's ID, `owner/name`.
        kind: of repository.
        revision: a branch, tag or commit; None for the main branch.
        files: names or glob patterns of the files to download.
        error: the exception to raise.
        advice: the end of its message where neither the Hub nor the cache has the files.

    Returns:
        The local folder and its commit.

    Raises:
        error: the repository does not exist, access is denied, or the download fails.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    patterns = list(files)
    try:
        # Reports a missing repository within seconds; snapshot_download would retry first.
        find_commit(name, kind=kind, revision=revision, error=error)
    except HubUnreachable as reason:
        try:
            folder = snapshot_download(
                name, revision=revision, local_files_only=True, allow_patterns=patterns
            )
        except LocalEntryNotFoundError:
            raise error(reason.explain(name, kind) + advice) from None
        return Path(folder), Path(folder).name
    try:
        # By the revision's name and not its commit, so that the cache can resolve it offline.
        folder = snapshot_download(name, revision=revision, allow_patterns=patterns)
    except GatedRepoError:  # metadata of gated repositories is public, their files are not
        where = f"{name}: on {constants.ENDPOINT}"
        raise error(IS_GATED.format(where=where, kind=kind)) from None
    except (HfHubHTTPError, HTTPError, OSError) as cause:
        raise error(
            f"{name}: the download was interrupted ({first_line(cause)}); run the same command "
            "again to resume it"
        ) from None
    return Path(folder), Path(folder).name
