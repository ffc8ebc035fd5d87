"""What `import varstar_batch as vb` offers: light curves in memory, and the operations of the command line.

    import varstar_batch as vb
    vb.classify(time, mag, mag_err, period=0.55)

What fits in memory needs no folder and no cluster.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
from pydantic import ValidationError

from varstar_batch import api
from varstar_batch.api import ClassifiedSurvey, ClassifyRequest
from varstar_batch.catalog.columns.rows import Rows
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.errors import InputError, wanted
from varstar_batch.light_curves.rules import PhaseZero, Preprocessing, Scale
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle as open_model
from varstar_batch.requests import Request
from varstar_batch.runs.in_memory import Classifier, fold_in_memory
from varstar_batch.runs.stages import RunObserver
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.in_memory import config_of, hold
from varstar_batch.survey.open import open_survey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from varstar_batch.ingest.options import ArchiveReport, IngestReport, IngestRequest
    from varstar_batch.training.options import TrainingRequest
    from varstar_batch.training.train import Trained

__all__ = [
    "ClassifyRequest",
    "classify",
    "classify_survey",
    "fold",
    "ingest",
    "open_catalog",
    "open_model",
    "open_survey",
    "plot",
    "train",
]

Columns = SurveyConfig | Mapping[str, Any] | str | None
R = TypeVar("R", bound=Request)


def classify(
    time: Any,
    mag: Any = None,
    mag_err: Any = None,
    period: Any = None,
    *,
    object_id: Any = None,
    band: Any = None,
    bands: str | None = None,
    columns: Columns = None,
    model: Bundle | str | os.PathLike[str] | None = None,
    use_best_period: bool = False,
    mira_amplitude: float | None = None,
) -> Rows:
    """Classify light curves that are in memory: one star, many, or a table of them.

    Parameters
    ----------
    time : array_like, sequence of array_like, or table
        Days, or astropy's Time: of one star, or an array for each of many. Or everything in one table of pandas,
        polars, Arrow or astropy, also a TimeSeries or a LightCurve of lightkurve: one row an observation (columns
        object_id, time, mag, mag_err, period; one star without object_id), or one row an object with nested or list
        columns. Rows may be in any order.
    mag, mag_err : array_like or sequence of array_like, optional
        Magnitudes and their errors; without errors no sentinel in them can be cut.
    period : float, array_like of float, or mapping
        Days: for every star, for each in order, or by object_id. A table may have it as a column. A star of several
        whose period is NaN or not above 0 has a `status` that says so.
    object_id : array_like, optional
        Beside arrays; the stars are counted from 0 without.
    band : array_like or sequence of array_like, optional
        Beside arrays: names of bands, one an observation.
    bands : str, optional
        Of several bands the one to take, or "fuse": each is folded by itself, and the answers are combined.
    columns : SurveyConfig, mapping or str, optional
        Names and units of a table's columns, such as ``{"mag": "Vmag", "flux_unit": "nJy"}``, or a preset's name.
    model : Bundle, str or path, optional
        The bundle that ships by default.
    use_best_period : bool
        Classify with `best_period` where `period_flag` says that another one fits better.
    mira_amplitude : float, optional
        Magnitudes: from here on a long-period variable is M, below it SR.

    Returns
    -------
    Rows
        For each star what a catalog says of it, to the bit: `status`, `class`, `class_prob`, `prob_CEP` ...,
        `ood_score` and the others; null where the status is not ``ok``.

    Raises
    ------
    InputError
        Lengths differ, several bands, no period, a unit that is none of magnitudes: one sentence says which.
    """
    config = config_of(columns, bands)
    held = hold((time, mag, mag_err), period, object_id=object_id, band=band, config=config)
    classifier = Classifier.of(model)
    return classifier.classify(held, mira_amplitude=mira_amplitude, use_best_period=use_best_period)


def fold(
    time: Any,
    mag: Any = None,
    mag_err: Any = None,
    period: Any = None,
    *,
    scale: Scale = "none",
    phase_zero: PhaseZero = "first",
    object_id: Any = None,
    band: Any = None,
    bands: str | None = None,
    columns: Columns = None,
) -> Rows:
    """Clean and fold light curves that are in memory, and interpolate each to 512 points of phase.

    Parameters
    ----------
    time, mag, mag_err, period, object_id, band, bands, columns
        As for `classify`.
    scale : {"none", "center", "minmax"}
        Magnitudes, those less their median, or 0 to 1.
    phase_zero : {"first", "maximum"}
        Phase 0 at the first observation, or at maximum light.

    Returns
    -------
    Rows
        Of each star `object_id`, `status`, `n_obs`, `n_used`, `amplitude` [mag] and `curve`, float32 (512,).

    Raises
    ------
    InputError
        As for `classify`.
    """
    config = config_of(columns, bands)
    held = hold((time, mag, mag_err), period, object_id=object_id, band=band, config=config)
    for name, given, known in (("scale", scale, get_args(Scale)), ("phase_zero", phase_zero, get_args(PhaseZero))):
        if given not in known:
            raise InputError(expected=f"one of {', '.join(known)}", got=repr(given), where=name, fix="choose one")
    return fold_in_memory(held, Preprocessing(scale=scale, phase_zero=phase_zero))


def plot(
    time: Any,
    mag: Any = None,
    mag_err: Any = None,
    period: Any = None,
    *,
    bands: str | None = None,
    columns: Columns = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the light curve of one star, folded over two turns of phase where it has a period.

    Parameters
    ----------
    time, mag, mag_err, period, bands, columns
        As for `classify`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; of the current figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        What cleaning drops is marked.

    Raises
    ------
    InputError
        As for `classify`, or there are several stars.
    """
    from varstar_batch.report.light_curve import draw_light_curve

    is_raw = period is None and mag is not None
    held = hold((time, mag, mag_err), 1.0 if is_raw else period, config=config_of(columns, bands))
    [*batches] = held.batches()
    if sum(len(batch.light_curves) for batch in batches) != 1:
        number = sum(len(batch.light_curves) for batch in batches)
        raise InputError(expected="one star", got=f"{number:,}", where="plot", fix="draw them one by one")
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.gca()
    star = replace(batches[0], period=np.full(1, np.nan)) if is_raw else batches[0]
    draw_light_curve(ax, star, held.source.limits, Preprocessing())
    return ax


def ingest(request: IngestRequest | None = None, **fields: Any) -> IngestReport | ArchiveReport:
    """Make a survey of light curves in files, as `varstar ingest` does.

    Parameters
    ----------
    request : IngestRequest, optional
    **fields
        Its fields instead: ``vb.ingest(observations="files/", out="survey", format="auto")``.

    Raises
    ------
    VarstarError
        As `varstar_batch.api.ingest` says.
    """
    from varstar_batch.ingest.options import IngestRequest

    return api.ingest(_requested(IngestRequest, request, fields))


def classify_survey(
    request: ClassifyRequest | None = None, observer: RunObserver | None = None, **fields: Any
) -> ClassifiedSurvey:
    """Classify every light curve of a survey into a published catalog, as `varstar classify` does.

    Parameters
    ----------
    request : ClassifyRequest, optional
    observer : RunObserver, optional
        Whom to tell what goes on.
    **fields
        Fields of the request instead: ``vb.classify_survey(survey="survey", catalog="catalog", workers=0)``.

    Raises
    ------
    VarstarError
        As `varstar_batch.api.classify_survey` says.
    """
    return api.classify_survey(_requested(ClassifyRequest, request, fields), observer)


def train(request: TrainingRequest | None = None, **fields: Any) -> Trained:
    """Train a bundle on labelled surveys and write it with its report, as `varstar train` does.

    Parameters
    ----------
    request : TrainingRequest, optional
    **fields
        Its fields instead: ``vb.train(surveys=("mine",), out="bundle")``.

    Raises
    ------
    VarstarError
        As `varstar_batch.api.train` says.
    """
    from varstar_batch.training.options import TrainingRequest

    return api.train(_requested(TrainingRequest, request, fields))


def _requested(kind: type[R], request: R | None, fields: Mapping[str, Any]) -> R:
    if request is not None and not fields:
        return request
    paths = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in fields.items()}
    try:
        return kind.model_validate(paths) if request is None else request.model_copy(update=paths)
    except ValidationError as error:
        problem = error.errors()[0]
        is_missing = problem["type"] == "missing"
        raise InputError(
            expected=wanted(problem),
            got=", ".join(fields) or "none" if is_missing else repr(problem["input"]),
            where=".".join(map(str, problem["loc"])) or kind.__name__,
            fix=f"known are {', '.join(kind.model_fields)}",
        ) from None
