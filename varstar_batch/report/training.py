"""What is left beside a bundle or of an evaluation: measures and figures."""

from __future__ import annotations

import json
import os

from varstar_batch.model.training import Trained
from varstar_batch.storage.bundles import REPORT_FOLDER, write_bundle
from varstar_batch.storage.files import locate, writable


def write_trained(trained: Trained, out: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write the bundle, and the report into its folder.

    Raises
    ------
    InputError
        The place holds something else, or cannot be written.
    """
    write_bundle(trained.bundle, out, replace=replace)
    folder = locate(out, what="bundle") / REPORT_FOLDER
    measures = trained.bundle.contract.metrics["held_out"]
    writable(
        str(folder), "report", lambda: (folder / "metrics.json").write_bytes(json.dumps(measures, indent=1).encode())
    )
