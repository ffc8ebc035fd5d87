"""Object stores: how they are spoken to, and what their refusals mean. Credentials stay in the environment.

Nothing here imports an S3 library: what is raised by one is looked at only where one is loaded already.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from varstar_batch.errors import one_line

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
        # Of botocore's modes only this one tries status 429 (Too Many Requests) again, whatever code comes with it.
        config["retries"] = {"max_attempts": ATTEMPTS, "mode": os.environ.get("AWS_RETRY_MODE", "legacy")}
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # Stores other than Amazon's (Ceph before 19, for one) refuse the newer checksums that botocore adds by itself.
        for name in ("REQUEST_CHECKSUM_CALCULATION", "RESPONSE_CHECKSUM_VALIDATION"):
            if f"AWS_{name}" not in os.environ:
                config[name.lower()] = "when_required"
    # With a concurrency above 1 s3fs asks for the size of each object before it fetches it whole.
    return {"use_listings_cache": False, "max_concurrency": 1, "config_kwargs": config}


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
    return bool(error_codes(error) & _PRECONDITION_FAILED)


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
        known = error_codes(error) & _CREDENTIALS or type(error.__cause__).__name__ in _NO_CREDENTIALS
        return "credentials" if known else "forbidden"
    return "storage"


def _library_errors() -> tuple[type[Exception], ...]:
    # Evaluated only when something was raised; a library that was never loaded raised nothing.
    library = sys.modules.get("botocore.exceptions")
    return (library.BotoCoreError,) if library is not None else ()


def error_codes(error: OSError) -> set[str]:
    """Return the code and the HTTP status by which a store refused something, as texts; empty where it was no store."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return set()
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return {str(response.get("Error", {}).get("Code", "")), status} - {""}
