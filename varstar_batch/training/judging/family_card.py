"""What a bundle's card says of parents and subclasses, of the line between M and SR, and of its ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from varstar_batch.light_curves.classes import MIRA, SEMIREGULAR
from varstar_batch.model.bundle import BundleContract

RANGES = {
    "period": "periods of {} to {} d",
    "amplitude": "amplitudes of {} to {} mag",
    "observations": "{} to {} observations used",
}


def family_parts(contract: BundleContract, measures: Mapping[str, Any]) -> list[str]:
    """Return the parts of a card about parents, subclasses and definitions; empty without a family.

    Parameters
    ----------
    contract : BundleContract
    measures : mapping
        What `varstar_batch.training.judging.measures.judge` found, of surveys that were left out where there are such.
    """
    if contract.family is None:
        return []
    outputs = contract.outputs
    several = [
        f"{parent} is {' and '.join(contract.classes[k] for k in outputs.members(parent))}"
        for parent in outputs.several
    ]
    divided = [f"{name} into {', '.join(leaves)}" for name, leaves in contract.family.subclasses.items()]
    parts = [
        "## Parents and subclasses",
        f"Parents: {', '.join(outputs.parents)}"
        + (f", where {'; '.join(several)}" if several else "")
        + ". The probability of a parent is the sum of those of its classes. "
        + (f"It divides {' and '.join(divided)}." if divided else "It knows no subclasses."),
        *family_tables(measures),
        _lines(contract.training),
    ]
    return [part for part in parts if part]


def family_tables(measures: Mapping[str, Any]) -> list[str]:
    """Return how good answers about parents and subclasses are, as Markdown."""
    return [_parents(measures), _set_table(measures), _subclass_table(measures)]


def ranges_line(training: Mapping[str, Any]) -> str:
    """Return one line on the ranges in which the training lay; empty where a bundle has none."""
    ranges = training.get("ranges")
    if not ranges:
        return ""
    told = [text.format(*(f"{end:g}" for end in ranges[name])) for name, text in RANGES.items()]
    return f"99 % of them have {', '.join(told)}. `varstar inspect` and `--plan` warn of a survey that has others."


def _parents(measures: Mapping[str, Any]) -> str:
    return (
        f"The parent is right in {measures['parents']:.2%}; expected calibration error of the parents "
        f"{measures['parents_calibration_error']:.4f}."
    )


def _set_table(measures: Mapping[str, Any]) -> str:
    sets = measures.get("parent_sets")
    if not sets:
        return ""
    parents = list(dict.fromkeys(name for each in sets.values() for name in each["by_parent"]))
    rows = [
        "Columns `parents_95` and `parents_99` of a catalog list the parents that a star may be of. How many of the "
        "sets held the true one, where they were fitted on other stars:",
        "",
        f"| sets of | mean size | all | {' | '.join(parents)} |",
        "|---|---:|---:|" + "---:|" * len(parents),
    ]
    for level, each in sets.items():
        cells = [f"{each['size']:.2f}", f"{each['cover']:.3f}", *(f"{each['by_parent'][name]:.3f}" for name in parents)]
        rows.append(f"| {level} % | {' | '.join(cells)} |")
    return "\n".join(rows)


def _subclass_table(measures: Mapping[str, Any]) -> str:
    found = measures.get("subclasses")
    if not found:
        return ""
    rows = [
        "Among all stars whose label tells it; beside it the F1 of the other subclasses of the class, taken as one:",
        "",
        "| subclass | light curves | precision | recall | F1 | the others | F1 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, each in found.items():
        cells = [f"{each[key]:.3f}" for key in ("precision", "recall", "f1")]
        others = f"{each['n_others']:,} | {each['f1_of_others']:.3f}"
        rows.append(f"| {name} | {each['n_objects']:,} | {' | '.join(cells)} | {others} |")
    return "\n".join(rows)


def _lines(training: Mapping[str, Any]) -> str:
    lines = training.get("mira_lines")
    if not lines:
        return ""
    rows = [
        f"**{MIRA} against {SEMIREGULAR} is a definition**: an amplitude in a band. Where it lies by the labels "
        "of the training (amplitude is the catalog's column; the share is of labels on their side of the line). A "
        "survey that has a line of its own says it with `--mira-amplitude`:",
        "",
        f"| survey | band | {MIRA} | {SEMIREGULAR} | line [mag] | on their side |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for line in lines:
        name = line["survey"] or "**all**"
        cells = [f"{line[MIRA]:,}", f"{line[SEMIREGULAR]:,}", f"{line['amplitude']:.2f}", f"{line['agree']:.3f}"]
        rows.append(f"| {name} | {line['band']} | {' | '.join(cells)} |")
    return "\n".join(rows)
