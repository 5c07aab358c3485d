"""A folder's files as one commit of a repository on the hub: all of them, or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xt.errors import OutputError
from xt.hub.place import CARD, FETCHED, HubPlace
from xt.region_encoders import hub

PICTURE = "confusion.png"
SHARED = (*FETCHED, CARD, PICTURE)
"""The files that a model's repository has of us; of an earlier model what is not written anew is removed."""


def upload(
    folder: Path, repository: str, *, private: bool | None = None, message: str | None = None
) -> HubPlace:
    """Make the repository, if it is not there, and put the folder's files into it.

    Args:
        repository: "owner/name".
        private: whether a new repository is; None for what is usual for its owner.
        message: of the commit.
    Returns:
        the place, with its commit as the revision.
    Raises:
        OutputError: the hub cannot be reached, does not know who we are, or does not let us.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

    why = hub.closed()
    if why is not None:
        raise OutputError(f"{repository} cannot be written: {why}")
    if hub.get_token() is None:
        raise OutputError(
            f"{repository} cannot be written: {constants.ENDPOINT} wants to know who you are; run `hf auth login`, or "
            "set HF_TOKEN to a token that may write"
        )
    api = HfApi(endpoint=constants.ENDPOINT)
    names = sorted(path.name for path in folder.iterdir())
    with _in_words(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        there = set(api.list_repo_files(repository))
        stale = [name for name in SHARED if name in there and name not in names]
        done = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names),
                *(CommitOperationDelete(path_in_repo=name) for name in stale),
            ],
            commit_message=message or "A model of xt",
        )
    return HubPlace(repository, done.oid)


@contextmanager
def _in_words(repository: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise OutputError(
            f"a repository on the hub is called OWNER/NAME, got {repository!r}: {error}"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise OutputError(
                f"{repository} cannot be written: your token may not; make one that may write "
                "(Settings, Access Tokens), and see that its owner is you or an organisation of yours"
            ) from error
        raise OutputError(hub.refused(repository, repository, error)) from error
    except (OSError, ValueError) as error:
        raise OutputError(hub.refused(repository, repository, error)) from error
