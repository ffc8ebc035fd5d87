"""Light curves per second and core to features, beside what other classification systems compute for each of theirs.

- varstar-batch: cleaning, folding to 512 points and 24 features in one pass; then the network that ships, too.
- SCoPe (ZTF's classification project, Healy et al. 2024, arXiv:2312.00143): the functions `calc_basic_stats`,
  `calc_fourier_stats` and `compute_dmdt` of its package, called object by object as its `generate_features` does, with
  known periods; its networks are not counted. Measured where VARSTAR_SCOPE names the folder of the unpacked package
  `scope_ml`.
- light-curve (Malanchev 2021, arXiv:2012.01419), the Rust library behind several alert brokers: its counterparts of
  ALeRCE's statistics (Sanchez-Saez et al. 2021, arXiv:2008.03311), all light curves in one call; no folding, no
  harmonics. Measured where `light_curve` can be imported.

Neither is a dependency of this project.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tests.benchmarks.bench_fold import make_light_curves
from tests.benchmarks.harness import Options, Part, in_turns, rate_of, rows_of
from tests.benchmarks.rivals.naive_functions import load_naive
from varstar_batch.light_curves import LightCurves, Limits, fold
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.fold import Folded
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.classify import classify
from varstar_batch.model.engines.open import open_engine

OBSERVATIONS = 230
SLOW_OBJECTS = 300
"""Light curves for what takes milliseconds each."""

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def split(curves: LightCurves, n: int) -> list[Columns]:
    """Return time, magnitude and error of the first n objects, float64, without the sentinels."""
    found = []
    for first, last in pairwise(curves.offsets[: n + 1]):
        columns = [getattr(curves, name)[first:last].astype(np.float64) for name in ("time", "mag", "mag_err")]
        found.append(tuple(column[columns[2] < 99] for column in columns))
    return found


def scope_features(folder: Path) -> Callable[[list[Columns], np.ndarray], None]:
    """Return a function that computes SCoPe's features of all these light curves, one after the other."""
    import yaml

    module = load_naive(folder / "tools/featureGeneration/lcstats.py")
    bins = yaml.safe_load((folder / "config.defaults.yaml").read_text())["feature_generation"]["dmdt_ints"]

    def compute(light_curves: list[Columns], period: np.ndarray) -> None:
        for name, columns in enumerate(light_curves):
            module.calc_basic_stats(name, columns)
            module.calc_fourier_stats(name, columns, period[name])
            module.compute_dmdt(name, columns, bins)

    return compute


def light_curve_features() -> tuple[Callable[[list[Columns]], object], int]:
    """Return a function that computes the Rust library's features of light curves in one call, and how many."""
    import light_curve as lc

    features: list[Any] = [lc.Amplitude(), lc.AndersonDarlingNormal(), lc.BeyondNStd(1.0), lc.Cusum(), lc.Eta()]
    features += [lc.EtaE(), lc.ExcessVariance(), lc.InterPercentileRange(0.25), lc.InterPercentileRange(0.05)]
    features += [lc.Kurtosis(), lc.LinearTrend(), lc.MagnitudePercentageRatio(0.4, 0.05), lc.MaximumSlope(), lc.Mean()]
    features += [lc.MeanVariance(), lc.MedianAbsoluteDeviation(), lc.MedianBufferRangePercentage(0.1)]
    features += [lc.PercentAmplitude(), lc.Skew(), lc.StandardDeviation(), lc.StetsonK(), lc.Chi2Pvar()]
    extractor = lc.Extractor(*features)
    return lambda light_curves: extractor.many(light_curves, n_jobs=1, sorted=True, check=False), len(extractor.names)


def measure(options: Options) -> Part:
    """Measure them in turns on one core; the others only where this machine has them."""
    n = 2_000 if options.quick else 20_000
    some = min(SLOW_OBJECTS, n)
    curves, period = make_light_curves(n, OBSERVATIONS)
    light_curves = split(curves, n)
    bundle = read_bundle(None)
    engine = open_engine(bundle, "openvino")

    def folded() -> Folded:
        return fold(curves, period, bundle.contract.preprocessing, Limits(), features=True)

    calls: dict[str, Callable[[], float]] = {}
    part = Part(f"From light curves of {OBSERVATIONS} observations to features, one core")
    scope = os.environ.get("VARSTAR_SCOPE")
    if scope:
        compute = scope_features(Path(scope))
        name = "SCoPe: 22 statistics, 14 of harmonics, a histogram"
        calls[name] = rate_of(lambda: compute(light_curves[:some], period), some)
    if importlib.util.find_spec("light_curve"):
        rust, n_features = light_curve_features()
        name = f"light-curve {version('light-curve')}, in Rust: {n_features} statistics, no harmonics"
        calls[name] = rate_of(lambda: rust(light_curves), n)
    if not calls:
        part.notes.append("SCoPe and light-curve are not on this machine: see tests/benchmarks/bench_features.py.")
    calls[f"varstar-batch: folded, and {len(FEATURES)} features"] = rate_of(folded, n)
    calls["varstar-batch: and classified"] = rate_of(lambda: classify(bundle, engine, folded()), n)
    with threadpool_limits(1):
        part.rows = rows_of(in_turns(calls, options.rounds))
    return part
