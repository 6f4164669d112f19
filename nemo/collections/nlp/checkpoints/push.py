"""An exported folder to the Hugging Face hub, when somebody asks for it."""

from pathlib import Path

from nemo.utils.errors import StorageError, UsageError, reason

NO_TOKEN = "log in by `hf auth login`, or set HF_TOKEN to a token that may write"


def check_may_push(name: str) -> None:
    """See before the work that there is a token, and that a repository can have this name.

    Raises:
        UsageError: there is none, or it cannot.
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
        raise UsageError("there is no token for the hub", where=f"--push {name}", fix=NO_TOKEN)


def push(folder: Path, name: str, files: list[str], private: bool) -> str:
    """Upload files of an exported folder in one commit; returns the address of the model.

    Args:
        name: of the repository, `USER/MODEL`; made if it is not there.
        files: their names, so that nothing else that lies in the folder is published.
        private: of a new repository.

    Raises:
        UsageError: the hub refuses it.
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
            raise UsageError("the hub refuses it", where=where, found=reason(error)) from error
        raise StorageError("the hub fails", where=where, found=status, fix="try again later") from error
    except Exception as error:  # of the HTTP library, whose name changes with the hub's version
        raise StorageError(
            "the hub cannot be reached",
            where=f"--push {name}",
            found=reason(error),
            fix=f"the model is in {folder}; run the same command with --force where there is a network",
        ) from error
    return str(address)
