"""The configuration of a run: one validated, frozen model, read from TOML and from `key=value` texts."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from varstar_batch.errors import InputError, RefusedError, wanted
from varstar_batch.files.location import locate
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.bundle import BundleContract
from varstar_batch.model.engines.engine import EngineName, Precision
from varstar_batch.requests import Bytes, Request
from varstar_batch.survey.columns import PRESETS, SurveyConfig

_OF_THE_RESULT = {"survey", "labels", "mira_amplitude", "engine", "precision", "use_best_period"}


class GateConfig(BaseModel):
    """What a complete run must be like to become current; else it is held until a person releases it.

    Shares are from 0 to 1; a run is held where one is beyond its limit. What compares with the current run is passed by
    the first run of a catalog. A run that classified nothing is held whatever stands here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_changed: float = Field(
        default=0.1, ge=0, le=1, description="Share of the objects classified in both runs whose class changed"
    )
    max_gone: float = Field(
        default=0.1, ge=0, le=1, description="Share of the current run's objects that the survey does not have any more"
    )
    max_unclassified: float = Field(default=0.8, ge=0, le=1, description="Share of objects that were not classified")
    max_unclassified_growth: float = Field(
        default=0.1, ge=0, le=1, description="By how much that share may be above the current run's"
    )
    unfamiliar_score: float = Field(default=0.99, ge=0, le=1, description="ood_score above which one is unfamiliar")
    max_unfamiliar: float = Field(
        default=0.5, ge=0, le=1, description="Share of the classified objects that are unfamiliar"
    )
    max_failed: float = Field(default=0.5, ge=0, le=1, description="Share of partitions that failed")
    anchors: str | None = Field(
        default=None,
        description="Table of stars whose class is known for sure (Parquet, CSV, FITS, ECSV, VOTable), with labels as "
        "catalogs write them and identifiers or positions, as `varstar validate` reads it",
    )
    anchor_radius: float | None = Field(
        default=None, gt=0, le=3600, description="Arcseconds within which their positions match; none: by identifier"
    )
    min_anchor_accuracy: float = Field(
        default=0.8, ge=0, le=1, description="Share of the anchors in the catalog that must be classified right"
    )


class RunConfig(BaseModel):
    """Everything about a run that a person may choose and that its result may depend on.

    The preprocessing is not among the choices: it is the model's contract. Whoever states one (``[preprocessing]``)
    states what the bundle is expected to say, and a bundle that differs is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    survey: SurveyConfig = Field(default_factory=SurveyConfig, description="How the survey names its columns")
    labels: dict[str, str] = Field(
        default={}, description="Classes that labels of the survey mean, for example EW = 'ECL'; '' leaves one out"
    )
    preprocessing: dict[str, Any] = Field(default={}, description="What the bundle must agree with, for example sigma")
    mira_amplitude: float | None = Field(
        default=None,
        gt=0,
        description="Amplitude [mag] that divides LPVs: from it on they are M, else SR; by default as the model learnt "
        "it, see its card",
    )
    engine: EngineName = Field(default="auto", description="Inference engine; auto is OpenVINO on CPUs")
    precision: Precision = Field(
        default="float32",
        description="Arithmetic of the CNN; auto is this processor's fastest that changes next to no class, by the "
        "bundle's own measurement",
    )
    use_best_period: bool = Field(
        default=False, description="Classify by best_period where period_flag is not ok and one is known"
    )
    chunk_memory: Bytes = Field(default=256 * 2**20, ge=2**20, description="Bytes that a chunk may take in a worker")
    max_failed_fraction: float = Field(
        default=1.0, ge=0, le=1, description="Share of failed partitions beyond which the run is abandoned"
    )
    lost_gpus: Literal["cpu", "wait"] = Field(
        default="cpu", description="Without a GPU worker: classify on CPU workers, or wait until one comes"
    )
    lost_gpus_seconds: float = Field(default=30.0, ge=0, description="How long it has to be gone for that")
    replace_survey: bool = Field(
        default=False, description="The survey is meant to be another one than the catalog's: nothing is compared"
    )
    gate: GateConfig = Field(default_factory=GateConfig, description="What a run must be like to be published")

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that the result depends on, JSON-ready."""
        return self.model_dump(mode="json", by_alias=True, include=_OF_THE_RESULT)

    def check_preprocessing(self, contract: BundleContract) -> None:
        """Refuse a bundle whose preprocessing differs from what the configuration states.

        Raises
        ------
        RefusedError
            Naming every difference.
        """
        theirs = asdict(contract.preprocessing)
        unlike = {key: value for key, value in self.preprocessing.items() if theirs.get(key) != value}
        if unlike:
            raise RefusedError(
                expected="preprocessing "
                + ", ".join(f"{key}={theirs[key]!r}" for key in unlike)
                + ", the model's contract",
                got=", ".join(f"{key}={value!r}" for key, value in unlike.items()),
                where="configuration [preprocessing]",
                fix=f"leave these keys out, or take a bundle other than {contract.name}",
            )


Preset = Literal["canonical", "asas-sn", "ztf", "ogle", "gaia", "rubin-dp1", "rubin-dp2"]
"""Names of `PRESETS`."""


class PlanRequest(Request):
    """What a run is planned from: a survey, a model, a configuration."""

    survey: str = Field(min_length=1, description="Folder or URL of a survey: HATS, or any folder of Parquet files")
    model: str | None = Field(None, description="Folder or URL of a model bundle; by default the one that ships")
    preset: Preset = Field("canonical", description="Column names of a known survey; names given beside it win")
    config: RunConfig = Field(default_factory=RunConfig, description="Column names, engine, memory, tolerance")

    def run_config(self) -> RunConfig:
        """Return the configuration with the preset's column names below those that somebody changed."""
        # The form of Prefect's UI sends every field, with its default where nobody touched it.
        changed = self.config.survey.model_dump(exclude_defaults=True)
        names = PRESETS[self.preset].model_dump(exclude_unset=True) | changed
        return self.config.model_copy(update={"survey": SurveyConfig.model_validate(names)})


def load_config(
    path: str | os.PathLike[str] | None,
    texts: Iterable[str] = (),
    *,
    before: Mapping[str, Any] = MappingProxyType({}),
    after: Mapping[str, Any] = MappingProxyType({}),
) -> RunConfig:
    """Return the configuration of a TOML file, with what was said beside it on top.

    Parameters
    ----------
    path : path, optional
        Of the file; None for the defaults.
    texts : iterable of str
        ``section.key=value``, as people write them after --set.
    before, after : mapping
        Settings by section that `texts` change, and settings that change `texts`.

    Raises
    ------
    InputError
        The file is missing or is not TOML, a key is unknown (the nearest valid name is offered), a value does not fit.
    """
    where = "configuration" if path is None else str(path)
    data = {} if path is None else _read_toml(path)
    _merge(data, before)
    for text in texts:
        _set(data, text)
    _merge(data, after)
    _apply_preset(data, where)
    return validate_config(data, where)


def validate_config(data: Mapping[str, Any], where: str) -> RunConfig:
    """Return the configuration that `data` says, or raise InputError with one line about what is wrong with it."""
    try:
        config = RunConfig.model_validate(data)
        Preprocessing(**config.preprocessing)
    except ValidationError as error:
        raise _first_problem(error, where) from None
    except (TypeError, ValueError) as error:
        key = _unexpected_argument(error)
        if key is not None:
            raise _unknown_key(f"preprocessing.{key}", list(Preprocessing.__dataclass_fields__), where) from None
        raise InputError(
            expected="valid preprocessing rules", got=str(error), where=where, fix="correct that value"
        ) from None
    return config


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    location = locate(path, what="configuration")
    try:
        return tomllib.loads(location.read_bytes().decode())
    except FileNotFoundError:
        got, fix = "no such file", "check the path"
    except IsADirectoryError:
        got, fix = "a folder", "give the file in it"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        got, fix = f"text that is not TOML ({error})", "correct that line"
    raise InputError(expected="a TOML configuration file", got=got, where=str(location), fix=fix)


def _merge(data: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _merge(data.setdefault(name, {}), value)
        else:
            data[name] = value


def _set(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(
            expected="key=value", got=repr(text), where="--set", fix="write for example survey.mag=magnitude"
        )
    *sections, name = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
    try:
        data[name] = tomllib.loads(f"x = {value.strip()}")["x"]
    except tomllib.TOMLDecodeError:
        data[name] = value.strip()


def _apply_preset(data: dict[str, Any], where: str) -> None:
    survey = data.get("survey")
    if not isinstance(survey, dict) or "preset" not in survey:
        return
    name = survey.pop("preset")
    if name not in PRESETS:
        raise InputError(
            expected="a preset of " + ", ".join(PRESETS),
            got=repr(name),
            where=f"{where} [survey]",
            fix=_nearest(str(name), list(PRESETS)),
        )
    data["survey"] = PRESETS[name].model_dump(by_alias=True, exclude_unset=True) | survey


def _first_problem(error: ValidationError, where: str) -> InputError:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        sections: dict[Any, type[BaseModel]] = {"survey": SurveyConfig, "gate": GateConfig}
        first, *rest = problem["loc"]
        model = sections.get(first, RunConfig) if rest else RunConfig
        names = [field.alias or name for name, field in model.model_fields.items()]
        return _unknown_key(key, names, where)
    return InputError(
        expected=f"{key}: {wanted(problem)}", got=repr(problem["input"]), where=where, fix="correct that value"
    )


def _unknown_key(key: str, names: list[str], where: str) -> InputError:
    return InputError(
        expected="a configuration key that exists",
        got=f"unknown key {key!r}",
        where=where,
        fix=_nearest(key.rsplit(".", 1)[-1], names),
    )


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else "valid are " + ", ".join(names)


def _unexpected_argument(error: Exception) -> str | None:
    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return match.group(1) if match else None
