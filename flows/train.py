"""Train a network on labelled surveys and write a bundle with the evidence of how good it is."""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger, task

from varstar_batch import api
from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.progress import progress
from varstar_batch.training.options import TrainingRequest

TIMEOUT_SECONDS = 12 * 3600
"""The paper's six times 100 passes over 17,000 light curves take hours on two cores; beyond half a day it hangs."""


class TrainParameters(FlowParameters, TrainingRequest):
    """On what to train, how, and where the bundle goes."""


def _run_name() -> str:
    parameters = parameters_of_run(TrainParameters)
    return f"{parameters.name or parameters.architecture} into {short_name(parameters.out)}"


@flow(name="train", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, **FLOW)
def train(parameters: TrainParameters) -> str:
    """Train a network and return the hash of its bundle.

    Raises
    ------
    VarstarError
        As `varstar_batch.training.make_bundle.make_bundle` says.
    """
    tell_errors_in_one_line()
    return train_stage(parameters)


@task(name="train", **STAGE)
def train_stage(parameters: TrainParameters) -> str:
    """Read, train, calibrate, measure, write; a second try goes on where the first was cut off."""
    logger = get_run_logger()
    bundle = api.train(parameters, partial(progress, log=logger.info), logger.info).bundle
    logger.info("Bundle %s, %s, in %s.", bundle.hash[:12], bundle.contract.model_version, parameters.out)
    return bundle.hash
