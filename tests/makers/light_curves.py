"""Light curves for tests of folding."""

from __future__ import annotations

import numpy as np

from varstar_batch.light_curves import Folded, LightCurves, Limits, Preprocessing, fold

PLAIN = Preprocessing(scale="none")
PERIOD = 0.7


def make(*objects, dtype=np.float32) -> LightCurves:
    """Light curves of (time, mag) or (time, mag, mag_err) of each object."""
    columns = [np.concatenate([np.asarray(o[k], float) for o in objects]) for k in range(len(objects[0]))]
    offsets = np.cumsum([0, *(len(o[0]) for o in objects)], dtype=np.int64)
    return LightCurves(offsets, columns[0], *(column.astype(dtype) for column in columns[1:]))


def sine(n: int, seed: int = 0, period: float = PERIOD, noise: float = 0.01):
    """Times over 1000 d at JD 2.46e6 and magnitudes of one noisy sine."""
    rng = np.random.default_rng(seed)
    time = 2.46e6 + np.sort(rng.uniform(0, 1000, n))
    return time, 14 + 0.4 * np.sin(2 * np.pi * time / period) + rng.normal(0, noise, n)


def fold_one(time, mag, mag_err=None, period=PERIOD, rules=PLAIN, limits=None, dtype=np.float64) -> Folded:
    columns = (time, mag) if mag_err is None else (time, mag, mag_err)
    return fold(make(columns, dtype=dtype), [period], rules, limits or Limits())


def assert_same(a: Folded, b: Folded) -> None:
    """Assert bitwise equality of all fields."""
    for name in Folded.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
