"""Train a network on labelled surveys and write a bundle with the evidence of how good it is."""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger, task
from pydantic import Field

from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    Place,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.progress import progress
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.training.make_bundle import TrainingRequest, make_bundle
from varstar_batch.training.plan import TrainingOptions

TIMEOUT_SECONDS = 12 * 3600
"""The paper's six times 100 passes over 17,000 light curves take hours on two cores; beyond half a day it hangs."""


class TrainParameters(FlowParameters):
    """On what to train, how, and where the bundle goes."""

    surveys: tuple[Place, ...] = Field(description="Folders or URLs of surveys with labels", min_length=1)
    out: Place = Field(description="Folder or URL of the bundle; nothing may be there yet", min_length=1)
    name: str = Field(default="", description="Name of the model; by default the architecture's")
    classes: tuple[str, ...] = Field(default=CLASSES, description="What the labels may be, in the order of the answers")
    architecture: str = Field(default="paper", description="Of the network, which brings its own way of training")
    folds: int = Field(default=5, ge=0, description="Of the cross-validation; 0 holds out one fifth, once")
    epochs: int | None = Field(default=None, ge=1, description="Passes; by default the architecture's")
    batch_size: int | None = Field(default=None, ge=1, description="Light curves of a step; likewise")
    learning_rate: float | None = Field(default=None, gt=0, description="Of Adam; likewise")
    min_per_class: int = Field(default=400, ge=1, description="Light curves below which a class is rare")
    max_per_class: int = Field(default=5000, ge=1, description="Most light curves of a class")
    drop_rare_classes: bool = Field(default=False, description="Leave rare classes out instead of refusing")
    seed: int = Field(default=1, ge=0, lt=2**31, description="The same seed gives the same folds")
    columns: SurveyConfig = Field(default_factory=SurveyConfig, description="Column names of the surveys")
    replace: bool = Field(default=False, description="Put the bundle in the place of an old one")

    def request(self) -> TrainingRequest:
        """Return what the run is to do."""
        options = TrainingOptions(**self.model_dump(include=set(TrainingOptions.__dataclass_fields__)))
        return TrainingRequest(
            surveys=self.surveys,
            out=self.out,
            name=self.name,
            classes=self.classes,
            options=options,
            configs=(self.columns,) * len(self.surveys),
            replace=self.replace,
        )


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
    bundle = make_bundle(parameters.request(), partial(progress, log=logger.info), logger.info).bundle
    logger.info("Bundle %s, %s, in %s.", bundle.hash[:12], bundle.contract.model_version, parameters.out)
    return bundle.hash
