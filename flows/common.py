"""What the flows have in common: validated parameters, errors as one line, and what is worth trying again."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from pydantic import BaseModel, field_validator

from varstar_batch.errors import VarstarError, one_line
from varstar_batch.flows.events import emit_failed
from varstar_batch.requests import Request
from varstar_batch.runs.execute import StorageLostError

P = TypeVar("P", bound=BaseModel)


class FlowParameters(Request):
    """Base of every flow's parameters: a request that stands in the server's database and in its UI, for all to see."""

    @field_validator("*")
    @classmethod
    def _without_secrets(cls, value: Any) -> Any:
        for url in value if isinstance(value, tuple) else (value,):
            if isinstance(url, str) and "@" in url.partition("://")[2].partition("/")[0]:
                raise ValueError(
                    "no passwords in URLs: credentials come from the worker's environment or its cloud profile"
                )
        return value


def worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a task that failed may do better next time.

    An error that explains itself would only come back, but for storage that is lost: that may be found again.
    """
    return not isinstance(state.data, VarstarError) or isinstance(state.data, StorageLostError)


STAGE: dict[str, Any] = {
    # What is finished is read from storage; a cached task result would be a second truth, and often a wrong one.
    "cache_policy": NO_CACHE,
    # The data path has its own retries of each storage request, within seconds. This is for what lasts longer: a
    # storage server that restarts, a Dask scheduler that moved. Whatever is done stays done.
    "retries": 2,
    "retry_delay_seconds": [10, 60],
    "retry_condition_fn": worth_retrying,
}
"""Options of every task."""


FLOW: dict[str, Any] = {
    # No retries of a whole flow: whatever the retries of its stages could not mend, a person should see.
    "retries": 0,
    "on_failure": [emit_failed],
    "on_crashed": [emit_failed],
}
"""Options of every flow; the timeout is each flow's own."""


class OneLine(logging.Filter):
    """Log an error that explains itself as its one line, where Prefect would print pages of traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass, our own errors without their traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, VarstarError):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


def tell_errors_in_one_line() -> None:
    """Add the filter to Prefect's loggers of runs; every flow does so when it begins."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(there, OneLine) for there in logger.filters):
            logger.addFilter(OneLine())


def parameters_of_run(model: type[P]) -> P:
    """Return the parameters of the run that is going on, for its name."""
    given = flow_run.parameters["parameters"]
    return given if isinstance(given, model) else model.model_validate(given)


def short_name(url: str) -> str:
    """Return the last part of a path or URL, by which people know a survey, a catalog or a model."""
    return one_line(url.rstrip("/").rsplit("/", 1)[-1]) or url
