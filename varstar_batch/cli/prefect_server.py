"""Talking to a Prefect server: whatever goes wrong with that is one line that says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from varstar_batch.errors import InputError, one_line

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

START_FIX = "start one with `varstar serve`, or set PREFECT_API_URL to one that runs"
UNAUTHORISED = (401, 403)


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """Yield a client of the server that the environment or the Prefect profile names; never one of an ephemeral server.

    Raises
    ------
    InputError
        No server is named, it does not answer, it does not accept the credentials, it is of another version, or what is
        asked for is not there.
    """
    import httpx

    # A person waits, but a server on SQLite answers 503 now and then while it is busy. (A server that is not there at
    # all is told at once.)
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "3")
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise InputError(expected="the address of a Prefect server", got="none", where="PREFECT_API_URL", fix=START_FIX)
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        if code in UNAUTHORISED:
            raise InputError(
                expected="credentials that the server accepts",
                got=f"an answer of {code}",
                where=url,
                fix="set PREFECT_API_AUTH_STRING (that of `varstar serve` is in FOLDER/prefect-key) or PREFECT_API_KEY",
            ) from None
        if isinstance(error, PrefectHTTPStatusError):
            got = f"{code}: {one_line(error.response.text)[:300]}"
        else:
            got = f"an answer of {code}"
        raise InputError(
            expected="a Prefect server that does as it is told", got=got, where=url, fix="see the server's log"
        ) from None
    except ObjectNotFound as error:
        raise InputError(
            expected="what was asked for", got=one_line(error), where=url, fix="make it with `varstar deploy`"
        ) from None
    except (httpx.TransportError, httpx.InvalidURL) as error:
        got = one_line(error) or type(error).__name__
        raise InputError(expected="a Prefect server that answers", got=got, where=url, fix=START_FIX) from None
    except RuntimeError as error:
        # Prefect's client says so of a server of another major version.
        raise InputError(
            expected="a Prefect server of this version",
            got=one_line(error),
            where=url,
            fix="use the same prefect on both sides",
        ) from None
