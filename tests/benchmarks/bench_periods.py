"""Periods that are found beside those of a catalog: ours, and the highest peaks of astropy and nifty-ls, in turns.

Run ``python -m tests.benchmarks.bench_periods FOLDER [OBJECTS [SEED [JUDGE]]]``; FOLDER holds objects.parquet, with
periods, and observations.parquet in the long form; JUDGE is a file of
``varstar_batch.training.fitting.wrong_periods --write`` that was fitted without FOLDER's stars, instead of the one that
ships. All searches see the same observations and the same limits of frequency, one object after another, on one
core; speeds are by processor time.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from varstar_batch.ingest import period_search
from varstar_batch.ingest.period_search import find_period
from varstar_batch.light_curves.periods import MAX_FREQUENCY, SAMPLES_PER_PEAK
from varstar_batch.model.periods import PeriodJudge

Array = npt.NDArray[np.float64]
Curve = tuple[Array, Array, Array]

KINDS = ("P", "P/2", "2P", "1 d alias", "other", "none")
_NEARLY = 0.005


def main() -> int:
    """Search the periods of a sample of objects and print how many are the catalog's."""
    folder, words = Path(sys.argv[1]), [int(word) for word in sys.argv[2:4]]
    count, seed = [*words, *(100, 1)[len(words) :]]
    if len(sys.argv) > 4:
        judge = PeriodJudge.model_validate_json(Path(sys.argv[4]).read_bytes())
        period_search.read_judge = lambda: judge  # type: ignore[attr-defined]
    objects = sample(folder, count, seed)
    curves = list(light_curves(folder, objects))
    length = np.mean([len(curve[0]) for curve in curves])
    print(f"{folder.name}: {len(curves)} objects (seed {seed}) of {length:.0f} observations")
    print("| search | " + " | ".join(KINDS) + " | objects per s of CPU |")
    print("|---|" + "---:|" * (len(KINDS) + 1))
    searches: dict[str, Callable[[Array, Array, Array], float]] = {
        "`--find-periods`": lambda *curve: find_period(*curve).period,
        "astropy LombScargle, highest peak": highest_peak,
        "nifty-ls, highest peak": highest_peak_nifty,
    }
    found: dict[str, list[float]] = {name: [] for name in searches}
    seconds = dict.fromkeys(searches, 0.0)
    for search in searches.values():
        search(*curves[0])  # imports, and compiles
    for curve in curves:
        for name, search in searches.items():
            start = time.process_time()
            found[name].append(search(*curve))
            seconds[name] += time.process_time() - start
    periods = objects["period"].to_numpy()
    baselines = [float(np.ptp(curve[0])) for curve in curves]
    for name in searches:
        kinds = [kind_of(*three) for three in zip(found[name], periods, baselines, strict=True)]
        print(f"| {name} | {_shares(kinds)} | {len(curves) / seconds[name]:.1f} |")
        for label in sorted(set(objects["class"].to_pylist())):
            some = [kind for kind, c in zip(kinds, objects["class"].to_pylist(), strict=True) if c == label]
            print(f"| ... {label}, {len(some)} | {_shares(some)} | |")
    return 0


def sample(folder: Path, count: int, seed: int) -> pa.Table:
    """Return some of the objects that have a period and a class."""
    objects = pq.read_table(folder / "objects.parquet", columns=["object_id", "period", "class"])
    objects = objects.filter(pc.and_(pc.is_valid(objects["period"]), pc.is_valid(objects["class"])))
    chosen = np.random.default_rng(seed).permutation(len(objects))[:count]
    return objects.take(pa.array(np.sort(chosen)))


def light_curves(folder: Path, objects: pa.Table) -> Iterator[Curve]:
    """Yield time [d], magnitude and error of each object's good observations."""
    names = ["object_id", "time", "mag", "mag_err"]
    wanted = ds.field("object_id").isin(objects["object_id"].combine_chunks())
    rows = ds.dataset(folder / "observations.parquet").to_table(columns=names, filter=wanted)
    rows = rows.sort_by([("object_id", "ascending"), ("time", "ascending")])
    ids = rows["object_id"].to_numpy()
    columns = [rows[name].to_numpy().astype(np.float64) for name in names[1:]]
    for name in objects["object_id"].to_pylist():
        run = slice(*np.searchsorted(ids, [name, name + "\0"]).tolist())
        moment, mag, error = (column[run] for column in columns)
        good = (moment > 0) & (np.abs(mag) < 29) & (error > 0) & (error < 99)
        yield moment[good], mag[good], error[good]


def highest_peak(moment: Array, mag: Array, error: Array) -> float:
    """Return the period [d] at the highest peak of astropy's periodogram, as its documentation has it."""
    from astropy.timeseries import LombScargle

    frequency, power = LombScargle(moment, mag, error).autopower(
        minimum_frequency=1 / np.ptp(moment), maximum_frequency=MAX_FREQUENCY, samples_per_peak=SAMPLES_PER_PEAK
    )
    return float(1 / frequency[np.argmax(power)])


def highest_peak_nifty(moment: Array, mag: Array, error: Array) -> float:
    """Return the period [d] at the highest peak of nifty-ls's periodogram on the same grid."""
    import nifty_ls  # type: ignore[import-untyped]

    lowest = 1 / float(np.ptp(moment))
    count = int((MAX_FREQUENCY - lowest) * np.ptp(moment) * SAMPLES_PER_PEAK) + 1
    found = nifty_ls.lombscargle(
        moment, mag, error, fmin=lowest, fmax=MAX_FREQUENCY, Nf=count, backend="finufft", nthreads=1
    )
    return float(1 / (found.fmin + found.df * np.argmax(found.power)))


def kind_of(found: float, catalog: float, baseline: float = np.inf) -> str:
    """Say what a period is beside the catalog's, to 0.5 % or a fifth of what the length of the light curve resolves."""
    nearly = max(_NEARLY, 0.2 * catalog / baseline)
    for kind, factor in (("P", 1.0), ("P/2", 0.5), ("2P", 2.0)):
        if abs(found / (factor * catalog) - 1) < nearly:
            return kind
    if not np.isfinite(found):
        return "none"
    # Half the period has its aliases, too: those of an eclipsing binary's two alike minima.
    for truth in (1 / catalog, 2 / catalog):
        for days in (1, 1.00274, 2, 2.00548):
            if any(abs(abs(truth + sign * days) - 1 / found) < 0.002 for sign in (-1, 1)):
                return "1 d alias"
    return "other"


def _shares(kinds: list[Any]) -> str:
    counts = Counter(kinds)
    return " | ".join(f"{counts[kind] / len(kinds):.1%}" for kind in KINDS)


if __name__ == "__main__":
    raise SystemExit(main())
