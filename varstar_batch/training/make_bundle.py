"""A training from surveys on storage to a bundle on storage: read, plan, fit, write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.training.checkpoints import check_output, open_work
from varstar_batch.training.plan import TrainingOptions, plan_training
from varstar_batch.training.read_labelled import Selection, read_labelled
from varstar_batch.training.results import write_trained
from varstar_batch.training.train import Trained, train

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]
"""Takes a title, a total (or None) and a unit, and gives what is told of each step; the console has one."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What somebody wants trained."""

    surveys: tuple[str, ...]
    """Folders or URLs."""
    out: str
    """Folder or URL of the bundle."""
    name: str = ""
    """Of the model; "" for that of the architecture."""
    classes: tuple[str, ...] = CLASSES
    """What the surveys' labels may be, in the order of the bundle's answers."""
    options: TrainingOptions = field(default_factory=TrainingOptions)
    configs: tuple[SurveyConfig, ...] = ()
    """Of each survey; empty for the canonical one of all."""
    fresh: bool = False
    """Begin anew where an unfinished training could go on."""
    replace: bool = False
    """Put the bundle in the place of an old one."""


def make_bundle(request: TrainingRequest, progress: Progress, tell: Callable[[str], None]) -> Trained:
    """Train a bundle and write it with its report; what was cut off before goes on where it stopped.

    Parameters
    ----------
    request : TrainingRequest
    progress : callable
        See `Progress`.
    tell : callable
        Takes lines about what is going on.

    Raises
    ------
    InputError
        Surveys that cannot be read or trained on, an output that is taken.
    RefusedError
        Unfinished work of another training is in the way.
    """
    options = request.options
    options.recipe()
    check_output(request.out, replace=request.replace)
    selection = Selection(max_per_class=options.max_per_class, seed=options.seed, others=True, classes=request.classes)
    with progress("Reading", None, "light curves") as advance:
        data = read_labelled(request.surveys, request.configs or None, selection, advance)
    plan = plan_training(data, options)
    work = open_work(request.out, plan.fingerprint, plan.describe(), fresh=request.fresh)
    counts = ", ".join(f"{label} {count:,}" for label, count in plan.counts.items() if count)
    beginning = "Going on" if work.resumed else "Training"
    tell(f"{beginning}: {len(plan.fits)} networks of {plan.recipe.epochs} passes; {counts}")
    with progress("Training", plan.passes, "passes") as advance:
        trained = train(plan, request.name or options.architecture, work, advance)
    write_trained(trained, request.out, replace=request.replace or work.resumed)
    work.remove()
    return trained
