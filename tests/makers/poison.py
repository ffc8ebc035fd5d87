"""Dask preload for tests: a worker that dies whenever it folds a chunk of the partition named in VARSTAR_POISON.

With VARSTAR_POISON_KIND=memory it asks for more memory than any machine has instead.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np

from varstar_batch.runs import tasks

_real = tasks.folded_batches


def _folded_batches(context: Any, chunk: Any, tally: Any) -> Any:
    if chunk.partition.key == os.environ["VARSTAR_POISON"]:
        if os.environ.get("VARSTAR_POISON_KIND") == "memory":
            np.empty(2**55)
        os.kill(os.getpid(), signal.SIGKILL)
    return _real(context, chunk, tally)


tasks.folded_batches = _folded_batches
