"""Commands for models: `train` and `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from varstar_batch import api
from varstar_batch.cli.console import note, print_counts, print_json, print_table, say, warning_line
from varstar_batch.cli.options import ConfigOption, JsonOption, takes
from varstar_batch.cli.output import print_left_out
from varstar_batch.model.bundle_files import SHIPPED
from varstar_batch.progress import progress
from varstar_batch.runs.config import RunConfig, load_config
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.training.options import TrainingRequest
from varstar_batch.training.stars.labelled import survey_names

SurveySet = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", help="KEY=VALUE on top: survey.mag=Vmag; NAME.mag_max=25 for the survey of that name only."
    ),
]


@takes(
    TrainingRequest,
    arguments=("surveys",),
    common=("out", "name", "architecture", "epochs", "folds", "unseen", "seed", "fresh", "replace"),
    leave_out=("columns", "own_columns", "labels"),
)
def train(
    request: TrainingRequest, config: ConfigOption = None, set_: SurveySet = None, as_json: JsonOption = False
) -> None:
    """Train a network on labelled SURVEYS and write a bundle with the evidence of how good it is.

    A training that was cut off goes on where it stopped when the same command is given again.
    """
    from varstar_batch.training.judging.card import UNSEEN
    from varstar_batch.training.results import training_measures

    common, own_columns = configs_of(request.surveys, config, set_ or [])
    said = {"columns": common.survey, "own_columns": own_columns, "labels": common.labels}
    request = request.model_copy(update=said)
    trained = api.train(request, progress, note)
    measures = training_measures(trained.bundle.contract)
    if as_json:
        print_json(measures)
        return
    print_measures(measures)
    if (unseen := measures.get(UNSEEN)) is not None:
        say("On surveys that were held out:")
        print_measures(unseen)
    never = [label for label, values in measures["by_class"].items() if values["n_objects"] and not values["recall"]]
    if never:
        warning_line(f"no light curve of {', '.join(never)} was recognised: more of them, or more passes, are needed")
    say(f"Bundle {trained.bundle.contract.model_version}: {request.out}")


def evaluate(
    bundle: Annotated[str, typer.Argument(help="Folder or URL of a model bundle; `-` for the one that ships.")],
    surveys: Annotated[list[str], typer.Argument(help="Folders or URLs of surveys with labels (column class).")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for metrics.json, metrics.md, stars.csv and figures; must not hold anything yet.",
        ),
    ] = None,
    max_per_class: Annotated[int, typer.Option(min=1, help="Most light curves of a class, drawn at random.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of that choice.")] = 1,
    config: ConfigOption = None,
    set_: SurveySet = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a BUNDLE by labelled SURVEYS: the same measures and figures as after training, also survey by survey."""
    from varstar_batch.files.location import locate
    from varstar_batch.files.new_folder import check_vacant
    from varstar_batch.model.bundle_files import read_bundle
    from varstar_batch.survey.labels import LabelReader
    from varstar_batch.training.evaluate import gather_evidence
    from varstar_batch.training.judging.measures import judge
    from varstar_batch.training.results import write_report_of, write_stars
    from varstar_batch.training.stars.read_labelled import Selection, read_labelled
    from varstar_batch.training.stars.seen import count_seen

    model = read_bundle(None if bundle == SHIPPED else bundle)
    folder = None if out is None else locate(out, what="report")
    if folder is not None:
        check_vacant(folder)
    common, own_columns = configs_of(surveys, config, set_ or [])
    configs = [own_columns.get(name, common.survey) for name in survey_names(surveys)]
    classes = model.contract.classes
    selection = Selection(max_per_class=max_per_class, seed=seed, others=True, classes=classes, labels=common.labels)
    with progress("Reading", None, "light curves") as advance:
        data = read_labelled(surveys, configs, selection, advance)
    evidence, unusable, stars = gather_evidence(model, data)
    measures: dict[str, Any] = judge(evidence, classes)
    measures |= {"unusable": dict(unusable), "labels_left_out": dict(data.left_out)}
    if seen := count_seen(model.contract.training, data):
        warning_line(
            f"the model was trained on {seen:,} of these {len(data):,} light curves: these measures flatter it"
        )
    if folder is not None:
        write_report_of(evidence, measures, model.contract, folder)
        write_stars(stars, folder)
    if as_json:
        print_json(measures)
        return
    print_measures(measures)
    print_left_out(LabelReader(classes, common.labels).left_out(data.left_out))
    if len(measures["by_survey"]) > 1:
        rows = [
            (name, part["n_objects"], part["accuracy"], part["macro"]["f1"])
            for name, part in measures["by_survey"].items()
        ]
        print_table("By survey", ("survey", "light curves", "right", "macro F1"), rows)
    if unusable:
        print_counts("Not classified", unusable, "status")
    if folder is not None:
        say(f"Report: {folder}")


def print_measures(measures: dict[str, Any]) -> None:
    """Print what `varstar_batch.training.judging.measures.judge` found, for people."""
    names = ("precision", "recall", "f1")
    rows: list[tuple[object, ...]] = [
        (label, values["n_objects"], *(values[name] for name in names))
        for label, values in measures["by_class"].items()
        if values["n_objects"]
    ]
    rows.append(("average", measures["n_objects"], *(measures["macro"][name] for name in names)))
    print_table("Measures", ("class", "light curves", *names), rows)
    spread = measures["folds"]
    f1 = spread["macro"]["f1"]
    say(
        f"Right: {measures['accuracy']:.2%}. Macro F1 over {spread['folds']} fold(s): "
        f"{f1['mean']:.3f} ± {f1['std']:.3f}. Calibration error: {measures['calibration_error']:.4f}."
    )
    covers = [f"{level} % sets hold {each['cover']:.2%}" for level, each in measures.get("parent_sets", {}).items()]
    told = [f"right in {measures['parents']:.2%}", f"calibration error {measures['parents_calibration_error']:.4f}"]
    say(f"Parents: {', '.join([*told, *covers])}.")
    if measures.get("subclasses"):
        print_subclasses(measures["subclasses"])
    if measures["ood_auroc"] is not None:
        say(
            f"AUROC of the out-of-distribution score on {measures['n_others']:,} objects of other kinds: "
            f"{measures['ood_auroc']['mean']:.3f}"
        )


def print_subclasses(subclasses: dict[str, Any]) -> None:
    """Print the measures of the subclasses that labels tell."""
    names = ("precision", "recall", "f1")
    rows = [
        (name, each["n_objects"], *(each[key] for key in names), each["n_others"], each["f1_of_others"])
        for name, each in subclasses.items()
        if each["n_objects"] or each["n_others"]
    ]
    print_table("Subclasses, and the others of their class", ("", "light curves", *names, "others", "their f1"), rows)


def configs_of(
    surveys: Sequence[str], config: str | None, texts: Sequence[str]
) -> tuple[RunConfig, dict[str, SurveyConfig]]:
    """Return the configuration of all surveys, and, by name, the columns of those that have their own."""
    names = survey_names(surveys)
    common = [text for text in texts if text.partition(".")[0] not in names]
    own = {name: [text for text in texts if text.startswith(f"{name}.")] for name in names}
    own_columns = {
        name: load_config(config, [*common, *(f"survey.{text[len(name) + 1 :]}" for text in mine)]).survey
        for name, mine in own.items()
        if mine
    }
    return load_config(config, common), own_columns
