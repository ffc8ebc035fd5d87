"""The text for people that goes with a bundle."""

from __future__ import annotations

from typing import Any

from varstar_batch.model.bundle import BundleContract


def write_card(contract: BundleContract) -> str:
    """Return the Markdown of ``card.md``, every figure from the contract."""
    training: dict[str, Any] = contract.training
    preprocessing = ", ".join(f"{key} {value}" for key, value in contract.model_dump()["preprocessing"].items())
    versions = ", ".join(f"{key} {value}" for key, value in contract.versions.items())
    options = ", ".join(f"{key} {value}" for key, value in training["options"].items())
    parts = [
        f"# Bundle {contract.model_version}",
        f"Architecture `{contract.architecture}` of Akhmetali et al. (arXiv:2508.11964): probabilities of the classes "
        f"{', '.join(contract.classes)} from a phase-folded light curve.",
        "## Data",
        f"Trained on a {training['source']}: {training['n_train']} light curves, and {training['n_held_out']} held out "
        "for calibration and the measures below.",
        _limits(training["source"]),
        *(_measures(heading, measures) for heading, measures in _tables(contract.metrics)),
        _precision(contract),
        "## How it was made",
        f"Preprocessing: {preprocessing}.",
        f"Training: {options}. Versions: {versions}.",
        f"Fingerprint of the training data (SHA-256): `{training['fingerprint']}`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _limits(source: str) -> str:
    if not source.startswith("simulated"):
        return ""
    return (
        "**It has seen no real star.** The simulated light curves have honest shapes, cadence and noise, but they are "
        "cleaner and more alike than the sky; on real light curves expect much lower figures than these, and do not "
        "publish science with this bundle. It is there so that everything else can run. It knows the shape of the "
        "folded curve only: not the period, not the amplitude."
    )


def _tables(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    headings = {"held_out": "Held-out light curves", "other_survey": "Another survey"}
    return [(headings.get(key, key), value) for key, value in metrics.items()]


def _measures(heading: str, measures: dict[str, Any]) -> str:
    source = f" ({measures['source']})" if "source" in measures else ""
    rows = [
        f"## {heading}{source}",
        "",
        f"Accuracy {measures['accuracy']:.4f}, expected calibration error {measures['calibration_error']:.4f}.",
        "",
        "| class | light curves | precision | recall | F1 |",
        "|---|---|---|---|---|",
    ]
    average = {"n_objects": measures["n_objects"], **measures["macro"]}
    for label, line in [*measures["by_class"].items(), ("average", average)]:
        values = " | ".join(f"{line[name]:.3f}" for name in ("precision", "recall", "f1"))
        rows.append(f"| {label} | {line['n_objects']} | {values} |")
    return "\n".join(rows)


def _precision(contract: BundleContract) -> str:
    return "\n".join(
        f"With {name} arithmetic no probability of {change.n_objects} held-out light curves changes by more than "
        f"{change.max_probability_change:.4f}, and the class of {change.changed_classes:.2%} of them changes."
        for name, change in contract.precision.items()
    )
