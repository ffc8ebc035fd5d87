"""Object stores: how they are spoken to, and what their refusals mean. Credentials stay in the environment.

Nothing here imports an S3 library: what is raised by one is looked at only where one is loaded already.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from varstar_batch.errors import InputError, one_line

if TYPE_CHECKING:
    from varstar_batch.storage.files import Location

ATTEMPTS = 8
"""Of a request: with 30 % of them refused, 7 in 100,000 fail all the same, and the task is tried again then."""

_PRECONDITION_FAILED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def s3_options() -> dict[str, Any]:
    """Return how s3fs is to open a store; what the environment says about the same goes first.

    Returns
    -------
    dict
        Without credentials: s3fs finds those in the environment, in profiles or with the machine.
    """
    config: dict[str, Any] = {}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        config["retries"] = {"max_attempts": ATTEMPTS, "mode": os.environ.get("AWS_RETRY_MODE", "standard")}
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # Stores other than Amazon's (Ceph before 19, for one) refuse the newer checksums that botocore adds by itself.
        for name in ("REQUEST_CHECKSUM_CALCULATION", "RESPONSE_CHECKSUM_VALIDATION"):
            if f"AWS_{name}" not in os.environ:
                config[name.lower()] = "when_required"
    # With a concurrency above 1 s3fs asks for the size of each object before it fetches it whole.
    return {"use_listings_cache": False, "max_concurrency": 1, "config_kwargs": config}


def listed(folder: Location) -> Location:
    """Return a folder whose files' sizes are known from one listing, instead of being asked for file by file.

    Parameters
    ----------
    folder : Location
        Where nobody writes as long as the result is used.

    Returns
    -------
    Location
        The same folder through a filesystem of its own, which keeps a listing; a local one as it is.
    """
    if folder.is_local or not hasattr(folder.fs, "call_s3"):
        return folder
    options = folder.fs.storage_options | {"use_listings_cache": True, "skip_instance_cache": True}
    fs = type(folder.fs)(**options)
    fs.find(folder.path)
    return replace(folder, fs=fs)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what an S3 library raises in its own way (no answer, cut off, no credentials) into OSError.

    Raises
    ------
    PermissionError
        There are no credentials.
    OSError
        EIO: the store could not be spoken to.
    """
    try:
        yield
    except _library_errors() as error:
        if type(error).__name__ in _NO_CREDENTIALS:
            raise PermissionError(errno.EACCES, one_line(error)) from error
        raise OSError(errno.EIO, one_line(error)) from error


def is_refused_condition(error: OSError) -> bool:
    """Whether a store refused a conditional put since the object exists already."""
    return bool(_codes(error) & _PRECONDITION_FAILED)


def kind_of(error: OSError) -> str:
    """Return the machine-readable kind of a failure of storage.

    Returns
    -------
    str
        ``"disk_full"``, ``"credentials"`` (wrong, missing or expired), ``"forbidden"``, or ``"storage"``.
    """
    if error.errno in _FULL:
        return "disk_full"
    if isinstance(error, PermissionError):
        known = _codes(error) & _CREDENTIALS or type(error.__cause__).__name__ in _NO_CREDENTIALS
        return "credentials" if known else "forbidden"
    return "storage"


def refusal(location: Location, error: OSError) -> OSError:
    """Return why a store forbids reading an object; a HEAD request, by which it was found out, does not say why."""
    if location.is_local or _codes(error) - {"403", "Forbidden"}:
        return error
    try:
        with storage_errors():
            location.fs.cat_file(location.path, start=0, end=1)
    except OSError as reason:
        return reason if isinstance(reason, PermissionError) else error
    return error


def check_reachable(location: Location, what: str) -> Location:
    """Return a location after its bucket has answered; on a local disk, at once.

    Raises
    ------
    InputError
        No such bucket, wrong or missing credentials, nobody answers; in one line, without any secret.
    """
    if location.is_local or not hasattr(location.fs, "call_s3"):
        return location
    bucket, _, prefix = location.path.partition("/")
    where = f"{what} {location}"
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    server = f"{endpoint.hostname}:{endpoint.port}" if endpoint.hostname else "Amazon S3"
    try:
        with storage_errors():
            location.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except FileNotFoundError:
        raise InputError(
            expected="a bucket that exists",
            got=f"no bucket {bucket!r} at {server}",
            where=where,
            fix="check its name and AWS_ENDPOINT_URL, or create it",
        ) from None
    except PermissionError as error:
        raise InputError(
            expected=f"credentials that {server} accepts",
            got=_without_secrets(error),
            where=where,
            fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE",
        ) from None
    except OSError as error:
        raise InputError(
            expected="an object store that answers",
            got=_without_secrets(error),
            where=where,
            fix="check AWS_ENDPOINT_URL and the network",
        ) from None
    return location


def _library_errors() -> tuple[type[Exception], ...]:
    # Evaluated only when something was raised; a library that was never loaded raised nothing.
    library = sys.modules.get("botocore.exceptions")
    return (library.BotoCoreError,) if library is not None else ()


def _codes(error: OSError) -> set[str]:
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return set()
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return {str(response.get("Error", {}).get("Code", "")), status} - {""}


def _without_secrets(error: OSError) -> str:
    text = error.strerror if error.errno and error.strerror else one_line(error)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        secret = os.environ.get(name)
        if secret:
            text = text.replace(secret, "***")
    return text or type(error).__name__
