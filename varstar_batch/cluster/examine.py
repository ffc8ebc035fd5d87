"""What a cluster is made of, as far as it can be asked: versions of scheduler and workers, graphics cards, code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from varstar_batch.cluster.dask_runner import GPU
from varstar_batch.errors import one_line
from varstar_batch.model.keras_runtime import keras_sees_gpu, nvidia_driver_is_loaded
from varstar_batch.runs.plan import code_digests

if TYPE_CHECKING:
    from distributed import Client

PACKAGES = ("python", "dask", "distributed", "msgpack", "numpy", "pyarrow")
"""Whose versions must be the same everywhere: what they hand each other changes with them."""


@dataclass(frozen=True)
class Examined:
    """What was found out about a cluster."""

    workers: int
    unlike: tuple[str, ...]
    """A line for each version that is not this process's, or worker that cannot run this package."""
    gpu_workers: int
    """That declare a graphics card."""
    blind: tuple[str, ...]
    """A line for each of those that sees none."""


def examine_cluster(client: Client) -> Examined:
    """Return what scheduler and workers are, compared with this process."""
    versions = client.get_versions()
    found = {"the scheduler": versions["scheduler"], **versions["workers"]}
    unlike = _unlike(versions["client"], found)
    mine = own_code()
    for address, theirs in client.run(own_code, on_error="return").items():
        if isinstance(theirs, BaseException):
            unlike.append(f"{address} cannot load varstar-batch: {one_line(theirs)}")
        elif theirs != mine:
            unlike.append(f"{address} has other code of varstar-batch")
    workers = client.scheduler_info(n_workers=-1)["workers"]
    declared = [address for address, each in workers.items() if each["resources"].get(GPU)]
    blind = []
    if declared:
        for address, sees in client.run(sees_gpu, workers=declared, on_error="return").items():
            if sees is not True:
                blind.append(f"{address}: {one_line(sees) if isinstance(sees, BaseException) else 'none'}")
    return Examined(len(workers), tuple(unlike), len(declared), tuple(blind))


def own_code() -> dict[str, str]:
    """Return digests of this package's code, on whichever machine it is called."""
    return dict(code_digests())


def sees_gpu() -> bool:
    """Tell whether the network would be computed on a graphics card here."""
    return nvidia_driver_is_loaded() and keras_sees_gpu()


def _unlike(mine: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[str]:
    lines = []
    for who, theirs in found.items():
        other = [
            f"{name} {theirs['packages'].get(name)} instead of {mine['packages'].get(name)}"
            for name in PACKAGES
            if theirs["packages"].get(name) != mine["packages"].get(name)
        ]
        if other:
            lines.append(f"{who} has {', '.join(other)}")
    return lines
