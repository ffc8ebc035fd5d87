"""Imported by the process that workers are forked from: what a chunk needs, loaded and compiled before there are any.

Nothing here may start a thread, which a fork would lose: of OpenVINO only the library is loaded, no device is.
"""

from __future__ import annotations

from varstar_batch.light_curves.fold import compile_kernels
from varstar_batch.model.engines.openvino_graph import load_openvino
from varstar_batch.runs import tasks  # noqa: F401


def _load() -> None:
    import distributed  # noqa: F401

    compile_kernels()
    load_openvino()


_load()
