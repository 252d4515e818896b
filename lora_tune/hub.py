"""What the Hugging Face Hub holds under a name, asked once and answered within seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lora_tune.errors import LoraTuneError, first_line

Kind = Literal["model", "dataset", "adapter"]

TIMEOUT_SECONDS = 10
ASKS_FOR_ACCESS = (
    "{where} this {kind} asks for access: accept its terms on its page there, then log in with "
    "`hf auth login`"
)
OFFLINE_ADVICE = {
    "model": "offline, give a local folder with model.name=PATH, or run the quickstart recipe",
    "dataset": "offline, give local files with data.source=PATH, or run the quickstart recipe",
    "adapter": "offline, give an adapter directory",
}


class HubUnreachable(Exception):
    """The Hub gave no answer; the local cache may still hold what is wanted."""

    def explain(self, name: str, kind: Kind) -> str:
        """Say what was wanted, why it was not had, and what can be done without the Hub."""
        from huggingface_hub import constants

        return (
            f"{name}: wanted this {kind} from {constants.ENDPOINT} ({self}), and it is not in the "
            f"local cache; {OFFLINE_ADVICE[kind]}"
        )


def find_commit(name: str, *, kind: Kind, revision: str | None, error: type[LoraTuneError]) -> str:
    """Ask the Hub for the commit that a repository's revision stands for, without retries.

    Raises:
        error: the Hub answers that there is no such repository or revision, or no access to it.
        HubUnreachable: it gives no answer.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of the HTTP client: no such host, no route, no answer in time
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{name}: on {constants.ENDPOINT}"
    revision = revision or constants.DEFAULT_REVISION
    try:
        info = HfApi().repo_info(
            name,
            repo_type="dataset" if kind == "dataset" else "model",  # an adapter is one to the Hub
            revision=revision,
            timeout=TIMEOUT_SECONDS,
        )
    except HFValidationError:
        raise error(
            f"{name}: no such file or folder, and not the form of a Hub id (owner/name)"
        ) from None
    except GatedRepoError:
        raise error(ASKS_FOR_ACCESS.format(where=where, kind=kind)) from None
    except RepositoryNotFoundError:
        raise error(
            f"{where} there is no such {kind}, or it is private: check the spelling, or log in "
            "with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise error(f"{where} this {kind} has no revision {revision!r}") from None
    except OfflineModeIsEnabled:
        raise HubUnreachable("offline mode is on, HF_HUB_OFFLINE") from None
    except HfHubHTTPError as fault:
        raise HubUnreachable(f"it answered {fault.response.status_code}") from None
    except (HTTPError, OSError) as fault:
        raise HubUnreachable(f"out of reach: {str(fault) or type(fault).__name__}") from None
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
    """Fetch a model repository's files, or find them in the local cache where the Hub is silent.

    Args:
        files: names or patterns; nothing else is fetched.
        advice: what else can be done where neither has them.

    Returns:
        The folder and its commit.

    Raises:
        error: there is no such repository, no access to it, or no way to it.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    wanted = list(files)
    try:
        find_commit(name, kind=kind, revision=revision, error=error)  # said within seconds
    except HubUnreachable as reason:
        try:
            folder = snapshot_download(
                name, revision=revision, local_files_only=True, allow_patterns=wanted
            )
        except LocalEntryNotFoundError:
            raise error(reason.explain(name, kind) + advice) from None
        return Path(folder), Path(folder).name
    try:
        # By the revision's own name, so that the cache knows it when the Hub is out of reach.
        folder = snapshot_download(name, revision=revision, allow_patterns=wanted)
    except GatedRepoError:  # whoever asks may know of it, but not have its files
        where = f"{name}: on {constants.ENDPOINT}"
        raise error(ASKS_FOR_ACCESS.format(where=where, kind=kind)) from None
    except (HfHubHTTPError, HTTPError, OSError) as fault:
        raise error(
            f"{name}: the download broke off ({first_line(fault)}); run the same command again to "
            "go on with it"
        ) from None
    return Path(folder), Path(folder).name
