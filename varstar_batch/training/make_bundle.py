"""A training from surveys on storage to a bundle on storage: read, plan, fit, write."""

from __future__ import annotations

from collections.abc import Callable

from varstar_batch.model.bundle_files import SHIPPED, read_bundle
from varstar_batch.progress import ShowProgress
from varstar_batch.survey.labels import LabelReader
from varstar_batch.training.fitting.checkpoints import check_output, open_work
from varstar_batch.training.options import TrainingRequest
from varstar_batch.training.plan import plan_training
from varstar_batch.training.results import write_trained
from varstar_batch.training.stars.label_table import read_given
from varstar_batch.training.stars.read_labelled import Selection, read_labelled
from varstar_batch.training.start import tuned_recipe
from varstar_batch.training.train import Trained, train


def make_bundle(request: TrainingRequest, progress: ShowProgress, tell: Callable[[str], None]) -> Trained:
    """Train a bundle and write it with its report; what was cut off before goes on where it stopped.

    Parameters
    ----------
    request : TrainingRequest
    progress : callable
        See `ShowProgress`.
    tell : callable
        Takes lines about what is going on.

    Raises
    ------
    InputError
        Surveys that cannot be read or trained on, an output that is taken.
    RefusedError
        Unfinished work of another training is in the way.
    """
    options = request.options()
    start = None
    if request.from_bundle is None:
        options.recipe()
    else:
        start = read_bundle(None if request.from_bundle == SHIPPED else request.from_bundle)
        tuned_recipe(start, options)
    classes = request.classes if start is None else start.contract.classes
    given = None if request.label_table is None else read_given(request.label_table)
    check_output(request.out, replace=request.replace)
    selection = Selection(
        max_per_class=options.max_per_class,
        seed=options.seed,
        others=True,
        classes=classes,
        labels=request.labels,
        given=given,
    )
    with progress("Reading", None, "light curves") as advance:
        data = read_labelled(request.surveys, request.configs(), selection, advance)
    for line in LabelReader(classes, request.labels).left_out(data.left_out).values():
        tell(line)
    plan = plan_training(data, options, start)
    work = open_work(request.out, plan.fingerprint, plan.describe(), fresh=request.fresh)
    counts = ", ".join(f"{label} {count:,}" for label, count in plan.counts.items() if count)
    beginning = "Going on" if work.resumed else "Training"
    tell(f"{beginning}: {len(plan.fits)} networks of {plan.recipe.epochs} passes; {counts}")
    with progress("Training", plan.passes, "passes") as advance:
        trained = train(plan, request.name or plan.recipe.architecture, work, advance)
    write_trained(trained, request.out, replace=request.replace or work.resumed)
    work.remove()
    return trained
