"""The one place that imports Keras: quietly, and with its threads set before its backend starts."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from varstar_batch.errors import InputError

# What TensorFlow prints at its start whatever its log level is: its logger is not set up yet by then.
_NOISE = ("WARNING: All log messages before absl", "I0000 ", "To enable the following instructions")
_NO_GPU = "failed call to cuInit"


def load_keras(threads: int | None = None) -> ModuleType:
    """Import Keras on the backend that KERAS_BACKEND names, or TensorFlow.

    Parameters
    ----------
    threads : int, optional
        Threads of TensorFlow. They can be set only before its first operation in a process; later calls leave them.

    Raises
    ------
    InputError
        If Keras or its backend is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_noise():
        keras = _import_keras()
        if keras.backend.backend() == "tensorflow" and threads is not None:
            _set_tensorflow_threads(threads)
        _devices(keras)  # starts the backend while its complaints are held back
    return keras


def _devices(keras: ModuleType) -> list[str]:
    """Return the names of the devices that Keras may compute on."""
    if keras.backend.backend() == "torch":
        # Keras has no answer for this backend.
        import torch

        return ["cpu:0", *(f"gpu:{number}" for number in range(torch.cuda.device_count()))]
    return list(keras.distribution.list_devices())


def _import_keras() -> ModuleType:
    try:
        import keras
    except ModuleNotFoundError as error:
        backend = os.environ["KERAS_BACKEND"]
        name = (error.name or "").partition(".")[0]
        if name not in {"keras", backend}:
            raise
        fix = "pip install 'varstar-batch[train]'" if backend == "tensorflow" else f"pip install keras {backend}"
        raise InputError(
            expected=f"Keras with its backend {backend}",
            got=f"no package {name}",
            where="training, evaluating with Keras, --engine keras",
            fix=f"{fix}; OpenVINO classifies on CPUs without",
        ) from None
    module: ModuleType = keras
    return module


def keras_is_installed() -> bool:
    """Tell whether Keras and the backend that KERAS_BACKEND names (TensorFlow by default) are there to be imported."""
    names = ("keras", os.environ.get("KERAS_BACKEND", "tensorflow"))
    return all(find_spec(name) is not None for name in names)


def nvidia_driver_is_loaded() -> bool:
    """Tell whether the machine has an NVIDIA GPU: without the driver's device node no backend can see one."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def keras_sees_gpu() -> bool:
    """Tell whether Keras would compute on a GPU, no if it is not installed; imports its backend."""
    return keras_is_installed() and any("gpu" in device.lower() for device in _devices(load_keras()))


def _set_tensorflow_threads(threads: int) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        # One operation at a time: the network is a chain.
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        # TensorFlow has run in this process already and keeps the threads it has.
        return


@contextmanager
def numpy_copies_allowed() -> Iterator[None]:
    """Let Keras turn TensorFlow's variables into arrays: TensorFlow 2 lacks an argument that NumPy 2 warns about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


@contextmanager
def _without_noise() -> Iterator[None]:
    """Hold back what native code writes to file descriptor 2, and let through all but the known noise."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            _print_unless_noise(held.read().decode(errors="replace").splitlines())


def _print_unless_noise(lines: list[str]) -> None:
    quiet_about_gpu = not nvidia_driver_is_loaded()
    for line in lines:
        if not (line.startswith(_NOISE) or (quiet_about_gpu and _NO_GPU in line)):
            print(line, file=sys.stderr)
