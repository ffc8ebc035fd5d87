"""What the rows of a run mean, as tables beside them: the run itself, its classifier and its classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

CLASS_DESCRIPTIONS = {
    "CEP": ("Cepheids", "Pulsating supergiants with periods of days to months: classical, type II and anomalous"),
    "DSCUT": ("delta Scuti stars", "Short-period pulsators of spectral type A to F, high-amplitude ones included"),
    "ECL": ("Eclipsing binaries", "Detached, semi-detached and contact binaries"),
    "M": ("Mira variables", "Long-period pulsating giants of large amplitude"),
    "RR": ("RR Lyrae stars", "Pulsating horizontal-branch stars, fundamental mode and overtone"),
    "SR": ("Semi-regular variables", "Giants and supergiants that pulsate with noticeable, disturbed periodicity"),
}
"""Name and description of the classes of the science; a bundle may bring others, which are described by their name."""


def definition_tables(record: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Return the tables ``run``, ``classifier`` and ``class`` of a run from its record (``run.json``)."""
    model = record["model"]
    classifier = f"{model['name']} {model['version']}"
    described = [CLASS_DESCRIPTIONS.get(name, (name, "")) for name in model["classes"]]
    run = {
        "run_id": record["run_id"],
        "classifier_name": classifier,
        "survey": record["survey"],
        "finished": record["finished"],
        "code_version": record["code_version"],
        "configuration": json.dumps(record["configuration"], sort_keys=True),
        "fingerprint": record["fingerprint"],
        "n_objects": record["rows"],
        "n_classified": record["status"].get("ok", 0),
        "n_failed_partitions": record["failed_partitions"],
    }
    definition = {
        "run_id": record["run_id"],
        "classifier_name": classifier,
        "classifier_description": f"{model['architecture']} on phase-folded light curves",
        "model_hash": model["hash"],
    }
    return {
        "run": pa.Table.from_pylist([run]),
        "classifier": pa.Table.from_pylist([definition]),
        "class": pa.table(
            {
                "run_id": [record["run_id"]] * len(described),
                "classifier_name": [classifier] * len(described),
                "class_name": list(model["classes"]),
                "class_title": [title for title, _ in described],
                "class_description": [text for _, text in described],
                "n_objects": [int(record["classes"].get(name, 0)) for name in model["classes"]],
            }
        ),
    }
