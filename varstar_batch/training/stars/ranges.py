"""What a training has seen, for whoever asks whether a survey is like it; and where its labels divide M from SR."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch.light_curves.classes import MIRA, SEMIREGULAR
from varstar_batch.training.stars.labelled import LabelledLightCurves

MIDDLE = (0.005, 0.995)
"""Quantiles between which the training is said to lie: single wrong labels or periods are no experience."""

FEWEST_TO_DIVIDE = 10
"""Miras, and semi-regulars, of a survey below which nothing is said of the line between them."""

Float = npt.NDArray[np.floating]


def ranges_of(objects: LabelledLightCurves, amplitude: Float, n_used: npt.NDArray[np.integer]) -> dict[str, JsonValue]:
    """Return the ranges of period [d], amplitude [mag] and used observations that n objects lie in.

    Parameters
    ----------
    objects : LabelledLightCurves
    amplitude : float (n,)
        Faintest less brightest used observation [mag].
    n_used : integer (n,)

    Returns
    -------
    dict
        ``period``, ``amplitude`` and ``observations``, each [low, high] at the quantiles `MIDDLE`.
    """
    values = {
        "period": objects.period,
        "amplitude": amplitude.astype(np.float64),
        "observations": n_used.astype(np.float64),
    }
    return {name: [_stored(end) for end in np.quantile(column, MIDDLE)] for name, column in values.items()}


def mira_lines(objects: LabelledLightCurves, amplitude: Float) -> list[JsonValue]:
    """Return the amplitude that divides Miras from semi-regulars best, survey by survey, and for all together first.

    Parameters
    ----------
    objects : LabelledLightCurves
        n objects.
    amplitude : float (n,)
        Faintest less brightest used observation [mag].

    Returns
    -------
    list of dict
        ``survey`` ("" for all), ``band``, ``amplitude`` [mag], from which on most are Miras, ``agree``, the share of
        the labels that are as it says, and the numbers ``M`` and ``SR``. Empty where the classes are not there.
    """
    if not {MIRA, SEMIREGULAR} <= set(objects.classes):
        return []
    is_mira = objects.class_code == objects.classes.index(MIRA)
    variable = is_mira | (objects.class_code == objects.classes.index(SEMIREGULAR))
    lines: list[JsonValue] = []
    for survey in ["", *sorted(set(objects.survey[variable]))]:
        rows = variable & ((objects.survey == survey) | (survey == ""))
        miras = int(is_mira[rows].sum())
        others = int(rows.sum()) - miras
        if min(miras, others) < FEWEST_TO_DIVIDE:
            continue
        line, agree = _divide(amplitude[rows], is_mira[rows])
        bands = ", ".join(sorted({band for band in objects.band[rows] if band})) if survey else ""
        lines.append(
            {
                "survey": survey,
                "band": bands,
                "amplitude": round(line, 2),
                "agree": round(agree, 4),
                MIRA: miras,
                SEMIREGULAR: others,
            }
        )
    return lines


def _divide(amplitude: Float, is_mira: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the line above which most are Miras, and the share that is on its own side; both kinds weigh alike."""
    order = np.argsort(amplitude, kind="stable")
    values, sorted_miras = amplitude[order].astype(np.float64), is_mira[order]
    weight = np.where(sorted_miras, 0.5 / sorted_miras.sum(), 0.5 / (~sorted_miras).sum())
    # Line k is below the k-th: semi-regulars before it and Miras from it on are on their side.
    below = np.concatenate([[0.0], np.cumsum(weight * ~sorted_miras)])
    above = np.concatenate([np.cumsum((weight * sorted_miras)[::-1])[::-1], [0.0]])
    best = int((below + above).argmax())
    ends = np.concatenate([values[:1], 0.5 * (values[1:] + values[:-1]), values[-1:]])
    line = float(ends[best])
    return line, float(np.mean((amplitude >= line) == is_mira))


def _stored(value: np.floating) -> float:
    return float(f"{value:.4g}")
