"""Workers of a local cluster are forked from one process that has imported, and compiled, what all of them need.

Each worker would take 1.5 s of a core for that otherwise, and memory of its own. On a fresh machine, where the kernels
are still to be compiled, one process does it for all. It has no threads of Python's when it forks, and those of Arrow's
allocator survive it.
"""

from __future__ import annotations

import os
from multiprocessing import forkserver

METHOD = "forkserver"
"""How `multiprocessing` calls this."""

_PRELOADED = "varstar_batch.cluster.forkserver_preload"

ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""What Dask sets for its workers, and libraries read when they are loaded: here that is before there is a worker."""


def load_ahead_of_workers() -> None:
    """Begin to load, beside other work, what the workers of a local cluster need; only once in a process.

    What does it ends with this process.
    """
    forkserver.set_forkserver_preload([_PRELOADED])
    added = ENVIRONMENT.keys() - os.environ.keys()
    os.environ.update({name: ENVIRONMENT[name] for name in added})
    try:
        forkserver.ensure_running()
    finally:
        for name in added:
            del os.environ[name]
