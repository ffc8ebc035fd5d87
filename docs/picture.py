"""Draws classes.png for the README: simulated light curves, folded as the network sees them, and what it says of them.

Run from the repository's root: .venv/bin/python docs/picture.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.classify import classify
from varstar_batch.model.engines.open import open_engine
from varstar_batch.simulation.objects import SimulatedObjects, simulate_objects

NAMES = {
    "CEP": "Cepheid",
    "DSCUT": "δ Scuti",
    "ECL": "eclipsing binary",
    "M": "Mira",
    "RR": "RR Lyrae",
    "SR": "semi-regular",
}
INK, POINT, LINE = "#1b2733", "#8fa3b5", "#c2410c"


def observations(objects: SimulatedObjects, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Phases and magnitudes of one object's good observations."""
    curves: LightCurves = objects.light_curves.slice(index, index + 1)
    good = curves.mag < 29
    time = curves.time[good]
    return (time - time.min()) / objects.period[index] % 1, curves.mag[good]


def main() -> None:
    """Draw the picture."""
    objects = simulate_objects(0, 2000, 11)
    bundle = read_bundle()
    folded = fold(objects.light_curves, objects.period, bundle.contract.preprocessing, Limits(), features=True)
    magnitudes = fold(
        objects.light_curves, objects.period, replace(bundle.contract.preprocessing, scale="none"), Limits()
    )
    result = classify(bundle, open_engine(bundle), folded)
    figure, axes = plt.subplots(2, 3, figsize=(11, 5.2), layout="constrained", facecolor="white")
    for code, (name, axis) in enumerate(zip(CLASSES, axes.flat, strict=True)):
        right = (objects.class_code == code) & (result.class_code == code)
        probability = np.where(right, result.class_prob, -1)
        best = int(np.argsort(probability)[-max(1, right.sum() // 4)])
        phase, mag = observations(objects, best)
        grid = np.arange(512) / 512
        curve = magnitudes.curve[best]
        margin = 0.1 * np.ptp(curve)
        axis.scatter(np.r_[phase, phase + 1], np.r_[mag, mag], s=4, color=POINT, linewidths=0)
        axis.plot(np.r_[grid, grid + 1], np.r_[curve, curve], color=LINE, linewidth=1)
        axis.set_ylim(curve.max() + margin, curve.min() - margin)
        axis.set_xlim(0, 2)
        axis.set_title(f"{NAMES[name]}: {name} {result.class_prob[best]:.2f}", color=INK, fontsize=11, loc="left")
        axis.text(
            1, 1.02, f"P = {objects.period[best]:.4g} d", transform=axis.transAxes, ha="right", color=INK, fontsize=9
        )
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("phase", color=INK, fontsize=10)
    figure.supylabel("magnitude", color=INK, fontsize=10)
    figure.savefig(Path(__file__).with_name("classes.png"), dpi=110)


if __name__ == "__main__":
    main()
