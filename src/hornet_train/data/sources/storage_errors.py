"""What goes wrong with files and with the Hugging Face hub, as DataErrors that say what to do about it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hornet_train.errors import DataError

_LIBRARIES = ("datasets", "huggingface_hub", "fsspec")


@contextmanager
def hub_errors(name: str, *, revision: str | None = None) -> Iterator[bool]:
    """Run calls of `datasets` without its messages and progress bars, and turn its errors into DataErrors.

    For these calls only: a ValueError of our own in here would pass for a user's mistake.

    Args:
        name: the data set, as `data.name` gives it.
        revision: as `data.revision` gives it.

    Yields:
        Whether a person watches who may want to see progress bars of what takes long and happens once.

    Raises:
        DataError: the data set is gated, missing, out of reach, without what was asked for, or damaged.
    """
    import datasets
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx
    from pyarrow import ArrowException

    before = {library: logging.getLogger(library).level for library in _LIBRARIES}
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)  # an error is reported here, once
    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()  # "resolving" and "loading", at every start
    try:
        yield shown and sys.stderr.isatty()
    except DataError:
        raise
    except datasets.exceptions.DatasetGenerationError as error:
        raise DataError(
            f"data.name={name} cannot be prepared ({_first_cause(error)}): is a file damaged, or unlike "
            "the others?"
        ) from error
    except (HFValidationError, datasets.exceptions.DatasetsError, OSError, httpx.HTTPError) as error:
        raise DataError(f"data.name={name}{_reason(error, name, revision)}") from error
    except RecursionError as error:  # which is a RuntimeError too
        raise DataError(f"data.name={name}: what its files say of themselves is nested too deeply") from error
    except (ValueError, RuntimeError, ArrowException) as error:  # no such config, a data set that is a script
        raise DataError(f"data.name={name}: {_one_line(error)}{_remedy(error)}") from error
    finally:
        if shown:
            datasets.utils.enable_progress_bars()
        for library, level in before.items():
            logging.getLogger(library).setLevel(level)


@contextmanager
def file_errors(path: str, *, of_one_rank: bool = False) -> Iterator[None]:
    """Turn what goes wrong while one file is read into a DataError.

    Args:
        path: the file's path or URL.
        of_one_rank: whether this process may be the only one that reads it.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    from tarfile import TarError

    from huggingface_hub.utils import httpx
    from pyarrow import ArrowException

    try:
        yield
    except DataError as error:
        error.of_one_rank = of_one_rank
        raise
    except (OSError, EOFError, httpx.HTTPError, ArrowException, TarError, RecursionError) as error:
        remedy = "try again" if "://" in path else "fetch it again"
        fault = DataError(f"{path}: cannot be read ({type(error).__name__}: {_one_line(error)}); {remedy}")
        fault.of_one_rank = of_one_rank
        raise fault from error


def _reason(error: BaseException, name: str, revision: str | None) -> str:
    import datasets
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx

    causes = list(_causes(error))

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    # where nothing is cached, `datasets` raises its error again without its cause; then words have to do
    repository = "/".join(name.removeprefix("hf://datasets/").split("/")[:2]).partition("@")[0]
    page = f"https://huggingface.co/datasets/{repository}"
    if among(GatedRepoError) or "gated dataset" in str(error):
        return (
            f" is gated: accept its terms at {page}, then `hf auth login` or set HF_TOKEN to a token that "
            "may read it; or download it elsewhere and point data.name= at the parquet files"
        )
    if among(RevisionNotFoundError) or (revision and f"Revision '{revision}'" in str(error)):
        return f" has no revision data.revision={revision}; see {page}/commits/main"
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return f": {error.strerror}" + (f" ({error.filename})" if error.filename else "")
    unreached = among(ConnectionError, FileNotFoundError, httpx.HTTPError)
    if among(OfflineModeIsEnabled) or (unreached and datasets.config.HF_HUB_OFFLINE):
        return (
            " is not in the local cache, and HF_HUB_OFFLINE or HF_DATASETS_OFFLINE forbids to fetch it: "
            "unset it, or run once where there is a network, or point data.name= at local parquet files"
        )
    if among(RepositoryNotFoundError, DatasetNotFoundError, HFValidationError):
        return (
            ": the hub has no such data set, or it is private: check the id (<owner>/<name>), or "
            "`hf auth login`; a local folder is given by its path, as in data.name=./folder"
        )
    if among(DataFilesNotFoundError):
        return (
            f" holds no files that are read (parquet, arrow, webdataset tars, images); see {page}/tree/main"
        )
    refusals = [cause for cause in causes if isinstance(cause, HfHubHTTPError)]
    if refusals and refusals[-1].response.status_code in (401, 403):
        answer = _one_line(refusals[-1])
        return f": the hub refuses access ({answer}); `hf auth login` or set HF_TOKEN, see {page}"
    if not among(ConnectionError, HfHubHTTPError, httpx.HTTPError):
        return f": {_first_cause(error)}"
    return (
        f": the hub cannot be reached or does not answer ({_first_cause(error)}); try again, or point "
        "data.name= at local parquet files"
    )


def _remedy(error: BaseException) -> str:
    """What else reads tars that `datasets` does not."""
    if "don't share the same prefix" not in str(error):
        return ""
    return (
        "; tars on this machine may hold several types of images where neither data.image_column nor "
        "data.label_column is given; others are read with data.streaming=true, or packed as parquet"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _first_cause(error: BaseException) -> str:
    cause = list(_causes(error))[-1]
    return f"{type(cause).__name__}: {_one_line(cause)}"


def _one_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else f"{words[:300]}..."
