"""Commands for models: `train` and `evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from varstar_batch.cli.console import note, print_counts, print_json, print_table, say, warning_line
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.progress import progress
from varstar_batch.runs.config import load_config
from varstar_batch.survey.columns import SurveyConfig

SHIPPED = "-"
"""Instead of a bundle's folder."""

Surveys = Annotated[list[str], typer.Argument(help="Folders or URLs of surveys with labels (column class).")]
SurveySettings = Annotated[str | None, typer.Option("--config", help="TOML file: [survey] with names and limits.")]
SurveySet = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE on top: survey.mag=Vmag; NAME.mag_max=25 for the survey of that name only."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `varstar`."""
    app.command()(train)
    app.command()(evaluate)


def train(
    surveys: Surveys,
    out: Annotated[str, typer.Option(help="Folder or URL of the bundle; must not hold anything yet.")],
    name: Annotated[str | None, typer.Option(help="Of the model. [default: the architecture's]")] = None,
    classes: Annotated[str, typer.Option(help="Labels to learn, in the order of the answers.")] = ",".join(CLASSES),
    architecture: Annotated[str, typer.Option(help="paper or survey.")] = "paper",
    folds: Annotated[int, typer.Option(min=0, help="Of the cross-validation; 0 holds out one fifth, once.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes. [default: the architecture's; paper 100]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="[default: the architecture's; paper 16]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Of Adam. [default: the architecture's; paper 1e-4]")
    ] = None,
    min_per_class: Annotated[int, typer.Option(min=1, help="Light curves below which a class is rare.")] = 400,
    max_per_class: Annotated[int, typer.Option(min=1, help="Most light curves of a class, drawn at random.")] = 5000,
    drop_rare_classes: Annotated[
        bool, typer.Option("--drop-rare-classes", help="Leave rare classes out instead of refusing.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same folds.")] = 1,
    config: SurveySettings = None,
    set_: SurveySet = None,
    fresh: Annotated[bool, typer.Option(help="Begin anew where an unfinished training could go on.")] = False,
    replace: Annotated[bool, typer.Option(help="Put the bundle in the place of an old one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the measures as JSON.")] = False,
) -> None:
    """Train a network on labelled SURVEYS and write a bundle with the evidence of how good it is.

    A training that was cut off goes on where it stopped when the same command is given again.
    """
    from varstar_batch.training.make_bundle import TrainingRequest, make_bundle
    from varstar_batch.training.plan import TrainingOptions

    options = TrainingOptions(
        architecture=architecture,
        folds=folds,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        min_per_class=min_per_class,
        max_per_class=max_per_class,
        drop_rare_classes=drop_rare_classes,
        seed=seed,
    )
    request = TrainingRequest(
        surveys=tuple(surveys),
        out=out,
        name=name or "",
        classes=tuple(classes.split(",")),
        options=options,
        configs=tuple(survey_configs(surveys, config, set_ or [])),
        fresh=fresh,
        replace=replace,
    )
    trained = make_bundle(request, progress, note)
    measures: Any = trained.bundle.contract.metrics["held_out"]
    if as_json:
        print_json(measures)
        return
    print_measures(measures)
    say(f"Bundle {trained.bundle.contract.model_version}: {out}")


def evaluate(
    bundle: Annotated[str, typer.Argument(help="Folder or URL of a model bundle; `-` for the one that ships.")],
    surveys: Surveys,
    out: Annotated[
        str | None, typer.Option(help="Folder for metrics.json, metrics.md and figures; must not hold anything yet.")
    ] = None,
    max_per_class: Annotated[int, typer.Option(min=1, help="Most light curves of a class, drawn at random.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of that choice.")] = 1,
    config: SurveySettings = None,
    set_: SurveySet = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the measures as JSON.")] = False,
) -> None:
    """Judge a BUNDLE by labelled SURVEYS: the same measures and figures as after training, also survey by survey."""
    from varstar_batch.files.location import locate
    from varstar_batch.files.new_folder import check_vacant
    from varstar_batch.model.bundle_files import read_bundle
    from varstar_batch.training.evaluate import gather_evidence
    from varstar_batch.training.measures import judge
    from varstar_batch.training.read_labelled import Selection, read_labelled
    from varstar_batch.training.results import write_evaluation

    model = read_bundle(None if bundle == SHIPPED else bundle)
    folder = None if out is None else locate(out, what="report")
    if folder is not None:
        check_vacant(folder)
    configs = survey_configs(surveys, config, set_ or [])
    selection = Selection(max_per_class=max_per_class, seed=seed, others=True, classes=model.contract.classes)
    with progress("Reading", None, "light curves") as advance:
        data = read_labelled(surveys, configs, selection, advance)
    evidence, unusable = gather_evidence(model, data)
    measures: dict[str, Any] = judge(evidence, model.contract.classes)
    measures["unusable"] = dict(unusable)
    trained_on: Any = model.contract.training.get("surveys", {})
    if seen := sorted(set(data.survey) & set(trained_on)):
        warning_line(f"the model was trained on a survey of this name ({', '.join(seen)}): these measures flatter it")
    if folder is not None:
        write_evaluation(model, evidence, measures, folder)
    if as_json:
        print_json(measures)
        return
    print_measures(measures)
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
    """Print what `varstar_batch.training.measures.judge` found, for people."""
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
    if measures["ood_auroc"] is not None:
        say(
            f"AUROC of the out-of-distribution score on {measures['n_others']:,} objects of other kinds: "
            f"{measures['ood_auroc']['mean']:.3f}"
        )


def survey_configs(surveys: list[str], config: str | None, overrides: list[str]) -> list[SurveyConfig]:
    """Return the configuration of each survey: that of all, with what was said of the survey of that name on top."""
    from varstar_batch.training.read_labelled import survey_names

    configs = []
    names = survey_names(surveys)
    for name in names:
        mine = [text for text in overrides if text.partition(".")[0] not in names]
        mine += [f"survey.{text[len(name) + 1 :]}" for text in overrides if text.startswith(f"{name}.")]
        configs.append(load_config(config, mine).survey)
    return configs
