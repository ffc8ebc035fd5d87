"""Train a network on labelled, folded light curves and make a bundle of it.

The bundle that ships with the package is made, reproducibly, by::

    python -c "from varstar_batch.model.training import simulated_bundle; \
               from varstar_batch.storage.bundles import write_bundle; \
               write_bundle(simulated_bundle(), 'varstar_batch/model/bundles/default', replace=True)"
"""

from __future__ import annotations

import hashlib
import math
import platform
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch._version import __version__
from varstar_batch.arithmetic.classes import CLASSES
from varstar_batch.arithmetic.fold import fold
from varstar_batch.arithmetic.rules import Limits, Preprocessing
from varstar_batch.arithmetic.simulate import simulate_objects
from varstar_batch.model.bundle import Bundle, BundleContract, Calibration, PrecisionChange
from varstar_batch.model.cards import write_card
from varstar_batch.model.classify import temperature_softmax
from varstar_batch.model.engines import open_engine
from varstar_batch.model.evaluation import calibration_error, class_metrics, fit_energy_quantiles, fit_temperature
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras, numpy_copies_allowed
from varstar_batch.model.networks import build_paper_network, to_keras_file

MIN_PER_CLASS = 2
"""Fewest light curves of a class: one to train on and one to hold out."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    passes : int
        Passes over the training set (Keras's epochs), >= 1.
    batch_size : int
    learning_rate : float
        Of Adam; it falls to zero along a half cosine over the training.
    dropout : float
        In [0, 1).
    held_out : float
        Share of each class kept for calibration and measures, in (0, 1).
    seed : int
    """

    passes: int = 6
    batch_size: int = 64
    learning_rate: float = 1e-3
    dropout: float = 0.3
    held_out: float = 0.2
    seed: int = 1


@dataclass(frozen=True, eq=False)
class LabelledCurves:
    """Folded light curves with their true classes.

    Parameters
    ----------
    curves : float32 (n, n_phase)
    class_code : integer (n,)
        Indices into `CLASSES`.
    preprocessing : Preprocessing
        How the curves were made.
    source : str
        What they are and where they come from, for the bundle's contract and card.
    """

    curves: npt.NDArray[np.float32]
    class_code: npt.NDArray[np.uint8]
    preprocessing: Preprocessing
    source: str

    def __len__(self) -> int:
        return len(self.curves)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over curves and labels."""
        return hashlib.sha256(self.curves.tobytes() + self.class_code.astype(np.uint8).tobytes()).hexdigest()

    def take(self, rows: npt.NDArray[np.intp]) -> LabelledCurves:
        """Return the given rows."""
        return replace(self, curves=self.curves[rows], class_code=self.class_code[rows])


def simulated_curves(n_objects: int, seed: int, preprocessing: Preprocessing | None = None) -> LabelledCurves:
    """Simulate and fold a survey in memory; objects that cannot be folded are left out."""
    preprocessing = preprocessing or Preprocessing()
    objects = simulate_objects(0, n_objects, seed)
    folded = fold(objects.light_curves, objects.period, preprocessing, Limits())
    return LabelledCurves(
        curves=folded.curve[folded.ok],
        class_code=objects.class_code[folded.ok],
        preprocessing=preprocessing,
        source=f"simulated survey of {n_objects} objects, seed {seed}",
    )


def simulated_bundle(
    n_objects: int = 40_000, options: TrainingOptions = TrainingOptions(), *, name: str = "simulated"
) -> Bundle:
    """Make the bundle that ships: the paper's network trained on a simulated survey, measured on another.

    The survey's seed is that of `options`; the other survey, a fifth as large, has the next.
    """
    bundle = train(simulated_curves(n_objects, options.seed), options, name=name)
    other = simulated_curves(n_objects // 5, options.seed + 1)
    measured: dict[str, JsonValue] = {"source": other.source, **measure(bundle, other)}
    contract = bundle.contract.model_copy(update={"metrics": {**bundle.contract.metrics, "other_survey": measured}})
    return Bundle(contract=contract, keras_file=bundle.keras_file, card=write_card(contract))


def train(data: LabelledCurves, options: TrainingOptions, *, name: str) -> Bundle:
    """Train the paper's network and make a bundle of it.

    Parameters
    ----------
    data : LabelledCurves
        At least two light curves of every class, all finite.
    options : TrainingOptions
    name : str
        Of the bundle.

    Raises
    ------
    ValueError
        If a curve is not finite or a class has too few.
    """
    _check(data)
    train_rows, held_rows = split(data.class_code, options.held_out, options.seed)
    keras_file = _fit(data.take(train_rows), options)
    held_out = data.take(held_rows)
    contract = BundleContract(
        name=name,
        model_version=f"{name}-{hashlib.sha256(keras_file).hexdigest()[:8]}",
        architecture="paper",
        classes=CLASSES,
        preprocessing=data.preprocessing,
        calibration=Calibration(temperature=1.0),
        ood=None,
        precision={},
        training={
            "source": data.source,
            "fingerprint": data.fingerprint,
            "n_train": len(train_rows),
            "n_held_out": len(held_rows),
            "options": asdict(options),
        },
        metrics={},
        versions=_versions(),
        weights_sha256=hashlib.sha256(keras_file).hexdigest(),
    )
    contract = _calibrated(Bundle(contract=contract, keras_file=keras_file, card=""), held_out)
    return Bundle(contract=contract, keras_file=keras_file, card=write_card(contract))


def split(
    class_code: npt.NDArray[np.integer], held_out: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Split rows at random, class by class, into (training, held out); at least one of each class on both sides."""
    order = np.random.default_rng(seed).permutation(len(class_code))
    held = []
    for code in np.unique(class_code):
        rows = order[class_code[order] == code]
        held.append(rows[: min(max(round(held_out * len(rows)), 1), len(rows) - 1)])
    held_rows = np.sort(np.concatenate(held))
    return np.setdiff1d(order, held_rows), held_rows


def measure(bundle: Bundle, data: LabelledCurves) -> dict[str, JsonValue]:
    """Return `class_metrics` and ``calibration_error`` of a bundle on labelled curves."""
    logits = open_engine(bundle, "openvino").logits(data.curves).astype(np.float64)
    temperature = bundle.contract.calibration.temperature
    return {
        **class_metrics(data.class_code, logits.argmax(axis=1), bundle.contract.classes),
        "calibration_error": calibration_error(logits, data.class_code, temperature),
    }


def measure_precision(bundle: Bundle, curves: npt.NDArray[np.float32]) -> dict[str, PrecisionChange]:
    """Return what bfloat16 changes on `curves`; empty on a CPU that cannot compute it."""
    engine = open_engine(bundle, "openvino", "bfloat16")
    if engine.precision != "bfloat16":
        return {}
    temperature = bundle.contract.calibration.temperature
    exact, changed = (
        temperature_softmax(each.logits(curves).astype(np.float64), temperature)
        for each in (open_engine(bundle, "openvino", "float32"), engine)
    )
    return {
        "bfloat16": PrecisionChange(
            max_probability_change=round(float(np.abs(exact - changed).max()), 6),
            changed_classes=round(float(np.mean(exact.argmax(axis=1) != changed.argmax(axis=1))), 6),
            n_objects=len(curves),
        )
    }


def _fit(data: LabelledCurves, options: TrainingOptions) -> bytes:
    """Train and return the contents of the ``.keras`` file."""
    keras = load_keras()
    # Seeds Python, NumPy and the backend: initial weights, order of the batches and dropout.
    keras.utils.set_random_seed(options.seed)
    model = build_paper_network(data.preprocessing.n_phase, len(CLASSES), options.dropout)
    steps = options.passes * math.ceil(len(data) / options.batch_size)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)),
        loss="sparse_categorical_crossentropy",
        # On a CPU XLA takes ten seconds to compile the backward pass and then runs it no faster.
        jit_compile=keras_sees_gpu(),
    )
    with numpy_copies_allowed():
        model.fit(_shifted_batches(data, options), epochs=options.passes, shuffle=False, verbose=0)
    return to_keras_file(model)


def _shifted_batches(data: LabelledCurves, options: TrainingOptions) -> Any:
    """Return a keras.utils.PyDataset that gives each curve once a pass, in a new order and at a new phase shift.

    Phase zero of a curve means nothing, or only where its brightest point happened to be observed: shifted curves are
    as good as new ones.
    """
    base: Any = load_keras().utils.PyDataset
    n, n_phase = len(data), data.preprocessing.n_phase
    random = np.random.default_rng(options.seed)
    labels, grid = data.class_code.astype(np.int32), np.arange(n_phase)

    class Batches(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.order = random.permutation(n)

        def __len__(self) -> int:
            return math.ceil(n / options.batch_size)

        def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
            rows = self.order[index * options.batch_size : (index + 1) * options.batch_size]
            shift = random.integers(0, n_phase, size=(len(rows), 1))
            return data.curves[rows[:, None], (grid + shift) % n_phase][:, :, None], labels[rows]

        def on_epoch_end(self) -> None:
            self.order = random.permutation(n)

    return Batches()


def _calibrated(bundle: Bundle, held_out: LabelledCurves) -> BundleContract:
    """Return the contract with everything that is measured on held-out light curves."""
    logits = open_engine(bundle, "openvino").logits(held_out.curves).astype(np.float64)
    calibration = fit_temperature(logits, held_out.class_code)
    update: dict[str, Any] = {
        "calibration": calibration,
        "ood": fit_energy_quantiles(logits, calibration.temperature),
    }
    calibrated = replace(bundle, contract=bundle.contract.model_copy(update=update))
    update["metrics"] = {"held_out": measure(calibrated, held_out)}
    update["precision"] = measure_precision(calibrated, held_out.curves)
    return bundle.contract.model_copy(update=update)


def _check(data: LabelledCurves) -> None:
    if not np.isfinite(data.curves).all():
        raise ValueError(
            "curves: expected finite values, got NaN or infinity; leave out objects whose status is not ok"
        )
    counts = np.bincount(data.class_code, minlength=len(CLASSES))
    if len(counts) > len(CLASSES) or counts.min() < MIN_PER_CLASS:
        found = {label: int(count) for label, count in zip(CLASSES, counts, strict=False)}
        raise ValueError(f"classes: expected at least {MIN_PER_CLASS} light curves of each, got {found}")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    keras = load_keras()
    backend = keras.backend.backend()
    return {
        "varstar_batch": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {version(backend)}",
    }
