"""What can be chosen for a training, and what somebody wants trained."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.requests import Request
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.training.fitting.recipes import Recipe, find_recipe
from varstar_batch.training.stars.labelled import survey_names


class TrainingOptions(Request):
    """How to train. What is None is as the architecture's recipe has it."""

    architecture: str = Field(
        "survey", description="survey, which ships, or paper: the network, with its own way of training"
    )
    folds: int = Field(5, ge=0, description="Of the cross-validation; 0 holds out one fifth, once")
    epochs: int | None = Field(
        None, ge=1, description="Passes over the training set; by default the architecture's (paper 100)"
    )
    batch_size: int | None = Field(
        None, ge=1, description="Light curves of a step; by default the architecture's (paper 16)"
    )
    learning_rate: float | None = Field(None, gt=0, description="Of Adam; by default the architecture's (paper 1e-4)")
    min_per_class: int = Field(400, ge=1, description="Usable light curves below which a class is rare")
    max_per_class: int = Field(5000, ge=1, description="Most light curves of a class, drawn at random")
    drop_rare_classes: bool = Field(
        False, description="Leave rare classes out instead of refusing; the network never answers with one of them"
    )
    seed: int = Field(1, ge=0, le=2**31 - 1, description="The same seed gives the same choice, folds and training")
    unseen: bool = Field(False, description="Also hold out one survey after another, and calibrate on those")
    together: tuple[str, ...] = Field(
        (), description="Surveys that are held out at once, their names joined by +: of one telescope or the same stars"
    )
    judge_epochs: int | None = Field(
        None, ge=1, description="Passes of the networks that only judge; by default as many as the bundle's"
    )

    def recipe(self) -> Recipe:
        """Return the architecture's recipe with what these options say.

        Raises
        ------
        InputError
            There is no such architecture.
        """
        chosen = self.model_dump(include={"epochs", "batch_size", "learning_rate"}, exclude_none=True)
        return replace(find_recipe(self.architecture), **chosen)


class _Places(Request):
    surveys: tuple[str, ...] = Field(
        min_length=1, description="Folders or URLs of surveys with labels (column class, or --labels)"
    )
    out: str = Field(min_length=1, description="Folder or URL of the bundle; must not hold anything yet")
    name: str = Field("", description="Of the model; by default the architecture's")
    from_bundle: str | None = Field(
        None,
        description="Bundle whose network goes on learning, with its classes and preprocessing, from few labels of new "
        "surveys; - is the one that ships",
    )
    label_table: str | None = Field(
        None,
        description="Table of labels by object_id, such as `varstar ask` gives to fill in: learn from these stars "
        "only, whatever else the surveys say",
    )


class TrainingRequest(TrainingOptions, _Places):
    """What somebody wants trained."""

    classes: tuple[str, ...] = Field(CLASSES, description="Labels to learn, in the order of the answers")
    labels: dict[str, str] = Field(
        default={}, description="Classes that labels of the surveys mean, before those of all known catalogs"
    )
    columns: SurveyConfig = Field(default_factory=SurveyConfig, description="Column names of the surveys")
    own_columns: dict[str, SurveyConfig] = Field(
        default={}, description="By the name of a survey: its column names, where they are not those of the others"
    )
    fresh: bool = Field(False, description="Begin anew where an unfinished training could go on")
    replace: bool = Field(False, description="Put the bundle in the place of an old one")

    def options(self) -> TrainingOptions:
        """Return how to train, without on what and where."""
        return TrainingOptions(**{name: getattr(self, name) for name in TrainingOptions.model_fields})

    def configs(self) -> tuple[SurveyConfig, ...]:
        """Return the column names of each survey."""
        return tuple(self.own_columns.get(name, self.columns) for name in survey_names(self.surveys))
