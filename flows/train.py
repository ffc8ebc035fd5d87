"""Train the paper's network on a simulated survey and write a bundle, measured on another survey."""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from pydantic import Field

from flows.running import FLOW, STAGE, FlowParameters, Place, parameters_of_run, short_name, tell_errors_in_one_line
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.training import TrainingOptions, simulated_bundle
from varstar_batch.storage.bundles import write_bundle

TIMEOUT_SECONDS = 12 * 3600
"""The paper's 100 passes over 30,000 light curves take some hours on two cores; beyond half a day it hangs."""


class TrainParameters(FlowParameters):
    """On what to train, for how long, and where the bundle goes."""

    out: Place = Field(description="Folder or URL of the bundle; nothing may be there yet", min_length=1)
    name: str = Field(default="simulated", description="Name of the model", min_length=1)
    objects: int = Field(default=16_000, ge=60, description="Light curves to simulate; the other survey has half")
    passes: int = Field(default=20, ge=1, description="Passes over the training set")
    seed: int = Field(default=1, ge=0, description="Of simulation and training")


def _run_name() -> str:
    parameters = parameters_of_run(TrainParameters)
    return f"{parameters.name} into {short_name(parameters.out)}"


@flow(name="train", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, **FLOW)
def train(parameters: TrainParameters) -> str:
    """Train a network and return the hash of its bundle.

    Raises
    ------
    VarstarError
        The bundle cannot be written, or something is there already.
    """
    tell_errors_in_one_line()
    return write_stage(parameters, train_stage(parameters))


@task(name="train", **STAGE)
def train_stage(parameters: TrainParameters) -> Bundle:
    """Simulate, train, calibrate, measure."""
    options = TrainingOptions(passes=parameters.passes, seed=parameters.seed)
    return simulated_bundle(parameters.objects, options, name=parameters.name)


@task(name="write", **STAGE)
def write_stage(parameters: TrainParameters, bundle: Bundle) -> str:
    """Write the bundle at once, whole."""
    write_bundle(bundle, parameters.out)
    get_run_logger().info("Bundle %s of model %s in %s.", bundle.hash[:12], parameters.name, parameters.out)
    return bundle.hash
