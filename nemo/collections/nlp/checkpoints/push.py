"""Uploads an exported folder to the Hugging Face hub, on request."""

from pathlib import Path

from nemo.utils.errors import StorageError, UsageError, reason

NO_TOKEN = "log in with `hf auth login`, or set HF_TOKEN to a token with write access"


def check_may_push(name: str) -> None:
    """Before the work, check that there is a token and that the name is valid for a repository.

    Raises:
        UsageError: there is no token, or the name is not valid.
    """
    from huggingface_hub import get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(
            "not the name of a repository", where=f"--push {name}", expected="USER/MODEL", fix=reason(error)
        ) from error
    if get_token() is None:
        raise UsageError("no token for the hub", where=f"--push {name}", fix=NO_TOKEN)


def push(folder: Path, name: str, files: list[str], private: bool) -> str:
    """Upload files of an exported folder in one commit; returns the address of the model.

    Args:
        name: name of the repository, `USER/MODEL`; created if missing.
        files: names of the files to upload, so that nothing else in the folder is published.
        private: make a new repository private.

    Raises:
        UsageError: the hub refuses the upload.
        StorageError: the hub cannot be reached, or fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi(library_name="nemo-bert")
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            allow_patterns=files,
            commit_message="A BERT pretrained with nemo-bert",
        )
    except HfHubHTTPError as error:
        status = error.response.status_code
        where = f"--push {name}"
        if status in (401, 403):
            raise UsageError("the hub refuses the token", where=where, found=status, fix=NO_TOKEN) from error
        if status < 500:
            raise UsageError("the hub refuses the upload", where=where, found=reason(error)) from error
        raise StorageError(
            "the hub returned a server error", where=where, found=status, fix="try again later"
        ) from error
    except Exception as error:  # of the HTTP library, whose name changes with the hub's version
        raise StorageError(
            "the hub cannot be reached",
            where=f"--push {name}",
            found=reason(error),
            fix=f"the model is in {folder}; once there is a network, run the same command with --force",
        ) from error
    return str(address)
