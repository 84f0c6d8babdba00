"""An exported folder to the Hugging Face hub.

Shape legend: none.
"""

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError


def require_hub(repository: str) -> None:
    """Check, before work is spent, that a name is one of a repository and that somebody is logged in.

    Args:
        repository: `owner/name`.

    Raises:
        ValueError: If the name is not of that form.
        PermissionError: If there is no token.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{repository!r} names no repository on the hub; write it as owner/name")
    if get_token() is None:
        raise PermissionError(
            f"nobody is logged in to the Hugging Face hub, so nothing can be pushed to {repository}; run "
            "`hf auth login` or set HF_TOKEN to a token that may write"
        )


def push_folder(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder, model card included, as one commit.

    Args:
        folder: What `export_student` wrote.
        repository: `owner/name`; made if it does not exist.
        private: Make it private; an existing repository stays as it is.

    Returns:
        The address of the repository.

    Raises:
        ConnectionError: If the hub is out of reach.
        PermissionError: If it refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Student of SRT self-distillation")
    except HfHubHTTPError as error:
        raise PermissionError(
            f"the hub refused the push to {repository}: {error}; the token must be allowed to write there. The export "
            f"itself is complete in {folder}"
        ) from error
    except Exception as error:  # the hub's library raises what its network library does, which changes with it
        raise ConnectionError(
            f"{api.endpoint} is out of reach ({error}); the export itself is complete in {folder}: push it later with "
            f"`hf upload {repository} {folder}`"
        ) from error
    return str(address)
