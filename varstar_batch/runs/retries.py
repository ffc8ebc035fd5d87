"""Trying again what the system refused, and telling what it was that it refused."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from varstar_batch.errors import PartitionError, VarstarError, one_line
from varstar_batch.files.object_store import kind_of, storage_errors
from varstar_batch.runs.metrics import count_failure, count_retry
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.survey.open import Failure

TRIES = 4
"""Of a task, before what the system refuses is taken for a failure."""

FIRST_PAUSE = 0.5
"""Seconds between the first two tries; each further pause is twice as long."""

P = ParamSpec("P")
T = TypeVar("T")


class StorageLostError(VarstarError):
    """The storage of survey or catalog failed for longer than it was waited for: the run can be resumed."""

    exit_code = 1


def attempt(function: Callable[..., Any], partition: str, *arguments: Any) -> Any:
    """Do one task of a partition; what is wrong with the partition, or with the storage at last, is its outcome.

    Parameters
    ----------
    function : callable
        One of `varstar_batch.runs.tasks` or `varstar_batch.runs.gpu_tasks`.
    partition : str
        Key of the partition.
    *arguments
        What it takes.

    Returns
    -------
    Any
        What the function returned, or a `Failure`.
    """
    for retries in range(TRIES):
        try:
            with storage_errors():
                outcome = function(*arguments)
        except PartitionError as error:
            count_failure(error.kind)
            return Failure(partition, error.kind, str(error))
        except OSError as error:
            kind = kind_of(error)
            if retries == TRIES - 1 or kind != "storage":
                count_failure(kind)
                return Failure(partition, kind, f"{partition}: {type(error).__name__}: {one_line(error)}")
            count_retry()
            time.sleep(FIRST_PAUSE * 2**retries)
        else:
            return replace(outcome, retries=retries) if isinstance(outcome, ChunkRecord) and retries else outcome
    raise AssertionError("unreachable: the last try returns")


def steadfast(function: Callable[P, T]) -> Callable[P, T]:
    """Let a stage of a run, which may be repeated without harm, outlast storage that does not answer for a while.

    Raises
    ------
    StorageLostError
        In one line, when it failed `TRIES` times, or for a reason that waiting does not mend.
    """

    @functools.wraps(function)
    def stage(*args: P.args, **kwargs: P.kwargs) -> T:
        retries = 0
        while True:
            try:
                with storage_errors():
                    return function(*args, **kwargs)
            except OSError as error:
                kind = kind_of(error)
                retries += 1
                if retries == TRIES or kind != "storage" or isinstance(error, FileNotFoundError):
                    raise StorageLostError(
                        expected="storage that reads and writes",
                        got=f"{kind}: {one_line(error) or type(error).__name__}",
                        where=function.__name__,
                        fix="nothing is lost: mend it, and the same command goes on from there",
                    ) from error
            time.sleep(FIRST_PAUSE * 2 ** (retries - 1))

    return stage
