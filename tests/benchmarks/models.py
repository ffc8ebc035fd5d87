"""The model that everything is measured with: the paper's network, untrained, the same for every program."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.harness import ROOT
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.bundle import FORMAT_VERSION, Bundle
from varstar_batch.model.bundle_files import read_bundle, write_bundle

SHIPPED_BUNDLE = ROOT / "varstar_batch/model/bundles/default"


def paper_bundle(scratch: Path) -> Path:
    """Return the folder of the bundle, made at the first call: what weights say does not change how long they take."""
    folder = scratch / f"paper-model-{FORMAT_VERSION}"
    if not (folder / "bundle.json").exists():
        # In a process of its own: what Keras takes of memory and threads must not be in what is measured afterwards.
        subprocess.run([sys.executable, "-m", "tests.benchmarks.models", str(folder)], check=True, cwd=ROOT)
    return folder


def make_bundle() -> Bundle:
    """Return the paper's network with weights of seed 0 and, less features, the contract of the bundle that ships."""
    from varstar_batch.model.keras_runtime import load_keras
    from varstar_batch.model.networks import build_paper_network, to_keras_file

    load_keras().utils.set_random_seed(0)
    keras_file = to_keras_file(build_paper_network())
    shipped = read_bundle(None)
    contract = shipped.contract.model_copy(
        update={
            "name": "benchmark",
            "architecture": "paper",
            "preprocessing": Preprocessing(),
            "features": (),
            "weights_sha256": hashlib.sha256(keras_file).hexdigest(),
        }
    )
    return Bundle(contract=contract, keras_file=keras_file, card="Untrained; for benchmarks only.\n")


if __name__ == "__main__":
    write_bundle(make_bundle(), sys.argv[1], replace=True)
