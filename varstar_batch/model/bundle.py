"""A model bundle: the trained network and the contract that says what it may be fed and what comes out.

A bundle is three files: ``bundle.json`` holds a `BundleContract`, ``model.keras`` the network, ``card.md`` a text for
people. This module works on their contents; `varstar_batch.model.bundle_files` reads and writes the folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from varstar_batch.errors import InputError, RefusedError, told
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.family import Calibration, ClassName, Family, Frozen, Outputs, ParentSets, check_family
from varstar_batch.model.keras_file import Network, read_network

FORMAT_VERSION = 3
"""Version of the layout of ``bundle.json`` that this code writes."""

READABLE_VERSIONS = (2, 3)
"""Versions that it reads; 2 knows neither parents nor subclasses."""

MAX_CLASSES = 127
"""Codes of classes are int8."""

FIX = "choose another bundle with --model, or train one with this version"


def _complete_preprocessing(value: object) -> object:
    """Insist on every field: a bundle that relies on a default would change its meaning with the default."""
    if isinstance(value, Preprocessing):
        return value
    names = {field.name for field in fields(Preprocessing)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"preprocessing must be an object with exactly the keys {sorted(names)}")
    return Preprocessing(**value)


def _different(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError(f"expected different names, got {', '.join(classes)}")
    return classes


Numbers = tuple[float, ...]


class ClassDensity(Frozen):
    """A Gaussian of each class in k features, standardised by `mean` and `scale`.

    `whitenings` are the inverses of the Cholesky factors of the covariances, k x k, lower triangular.
    """

    mean: Numbers
    scale: Numbers
    centers: tuple[Numbers, ...]
    whitenings: tuple[tuple[Numbers, ...], ...]

    @model_validator(mode="after")
    def _shapes_fit(self) -> ClassDensity:
        k = len(self.mean)
        lengths = {len(self.scale), *map(len, self.centers), *map(len, self.whitenings)}
        lengths |= {len(row) for matrix in self.whitenings for row in matrix}
        if lengths != {k} or len(self.centers) != len(self.whitenings) or min(self.scale, default=0.0) <= 0:
            raise ValueError(
                f"expected {k} positive scales, and centers and square matrices of that width, one a class"
            )
        return self


class OutOfDistribution(Frozen):
    """Evenly spaced quantiles of what light curves like those of the training, held out of it, look like.

    Of the entropy of their parents' probabilities, of their `faintness`, of their `distance` in `density`, and of
    `both`: the sum of the ranks. Bundles of before have no faintness, and the entropy of the classes. See
    `varstar_batch.model.novelty`.
    """

    entropy: Numbers = Field(min_length=2)
    faintness: Numbers = ()
    density: ClassDensity | None = None
    distance: Numbers = ()
    both: Numbers = ()

    @model_validator(mode="after")
    def _complete(self) -> OutOfDistribution:
        if (self.density is not None) != (len(self.distance) > 1):
            raise ValueError("expected quantiles of distance with a density, and none without")
        if (len(self.both) > 1) != (self.density is not None or len(self.faintness) > 1):
            raise ValueError("expected quantiles of both with a density or faintness, and none without")
        return self


class PrecisionChange(Frozen):
    """What a lower arithmetic precision changed on held-out light curves when the bundle was made."""

    max_probability_change: float = Field(ge=0, le=1)
    changed_classes: float = Field(ge=0, le=1, description="share of light curves whose class changed")
    n_objects: int = Field(ge=0)


class ChannelRanges(Frozen):
    """What the inputs of a convolution ranged over in calibration, by channel (`varstar_batch.model.engines.int8`)."""

    low: tuple[float, ...] = Field(min_length=1)
    high: tuple[float, ...] = Field(min_length=1)


class BundleContract(Frozen):
    """The contents of ``bundle.json``.

    `preprocessing` is the complete configuration of `light_curves.fold.fold` that made the training curves, and so the
    one that inference must use. `precision` maps a precision's name to what it changes.
    """

    format_version: int = FORMAT_VERSION
    name: str
    model_version: str
    architecture: str
    classes: Annotated[tuple[ClassName, ...], AfterValidator(_different)] = Field(min_length=2, max_length=MAX_CLASSES)
    preprocessing: Annotated[
        Preprocessing, BeforeValidator(_complete_preprocessing), PlainSerializer(asdict, return_type=dict[str, Any])
    ]
    features: tuple[str, ...] = ()
    family: Family | None = None
    calibration: Calibration
    parent_sets: ParentSets | None = None
    ood: OutOfDistribution | None
    precision: dict[str, PrecisionChange]
    int8_ranges: dict[str, ChannelRanges] = Field(default_factory=dict)
    training: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    versions: dict[str, str]
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _family_fits(self) -> BundleContract:
        check_family(self.classes, self.family, self.calibration, self.parent_sets)
        return self

    @property
    def outputs(self) -> Outputs:
        """What the network's outputs are, in their order."""
        return Outputs(self.classes, self.family)

    def to_json(self) -> bytes:
        """Return the canonical text of ``bundle.json``: UTF-8, sorted keys, no NaN."""
        document = self.model_dump(mode="json")
        return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class Bundle:
    """A trained network with its contract; small enough to be sent to workers whole."""

    contract: BundleContract
    keras_file: bytes
    """Contents of ``model.keras``."""
    card: str
    """Markdown for people: data, licences, limits."""

    @property
    def hash(self) -> str:
        """SHA-256 (hexadecimal) over contract and weights: the model's identity in a run's fingerprint."""
        # The contract carries the hash of the weights.
        return hashlib.sha256(self.contract.to_json()).hexdigest()

    def network(self) -> Network:
        """Return the layers and weights, read without Keras."""
        return read_network(self.keras_file, where=f"bundle {self.contract.name}")


def parse_bundle(contract_json: bytes, keras_file: bytes, card: str, *, where: str) -> Bundle:
    """Build a bundle from the contents of its files, checked in every way that needs no inference.

    Parameters
    ----------
    contract_json, keras_file : bytes
        Contents of ``bundle.json`` and ``model.keras``.
    card : str
        Contents of ``card.md``.
    where : str
        Where the bundle came from, for the messages.

    Raises
    ------
    InputError
        If it is no bundle or a damaged one: not JSON, missing or mistyped keys, wrong hash, unreadable network,
        weights that are not finite.
    RefusedError
        If it is a sound bundle that does not fit this code: format version, classes, preprocessing, features, layers.
    """
    document = _parse_json(contract_json, where)
    _check_format(document, where)
    try:
        contract = BundleContract.model_validate_json(contract_json)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            expected="a complete bundle.json",
            got=f"{key}: {told(first)} ({error.error_count()} problems)",
            where=where,
            fix=FIX,
        ) from None
    digest = hashlib.sha256(keras_file).hexdigest()
    if digest != contract.weights_sha256:
        raise InputError(
            expected=f"model.keras with sha256 {contract.weights_sha256[:16]}...",
            got=f"{digest[:16]}... in {len(keras_file)} bytes",
            where=where,
            fix="copy the bundle again: the file is damaged or was replaced",
        )
    network = read_network(keras_file, where=where)
    _check_finite(network, where)
    _check_fit(contract, network, where)
    return Bundle(contract=contract, keras_file=keras_file, card=card)


def _check_finite(network: Network, where: str) -> None:
    """Refuse weights that are no numbers: whatever they touch has no probabilities, or wrong ones."""
    for layer in network.layers:
        for name, array in layer.arrays.items():
            bad = array.size - np.count_nonzero(np.isfinite(array))
            if bad:
                raise InputError(
                    expected="weights that are finite numbers",
                    got=f"{bad:,} of {array.size:,} that are NaN or infinite in {layer.name}/{name}",
                    where=where,
                    fix="train it again: the training diverged, or the file was made by something else",
                )


def _check_fit(contract: BundleContract, network: Network, where: str) -> None:
    """Refuse, naming every difference, a bundle that does not fit this code or its own network."""
    found = []
    if unknown := [name for name in contract.features if name not in FEATURES]:
        found.append(f"features: bundle asks for {unknown}, this code has {list(FEATURES)}")
    expected: list[tuple[int, ...]] = [(contract.preprocessing.n_phase, 1)]
    if contract.features:
        expected.append((len(contract.features),))
    if list(network.input_shapes) != expected:
        found.append(f"input shapes: contract {expected}, network {list(network.input_shapes)}")
    if network.n_outputs != len(contract.outputs.leaves):
        found.append(f"outputs: contract {len(contract.outputs.leaves)} classes, network {network.n_outputs}")
    _refuse(found, where)


def _parse_json(contract_json: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(contract_json)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(expected="bundle.json to be JSON", got=str(error), where=where, fix=FIX) from None
    if not isinstance(document, dict) or "format_version" not in document:
        raise InputError(
            expected="bundle.json with a format_version", got=f"{contract_json[:60]!r}", where=where, fix=FIX
        )
    return document


def _check_format(document: dict[str, Any], where: str) -> None:
    """Refuse what only another version of this code understands, before its keys are taken for mistakes."""
    if document["format_version"] not in READABLE_VERSIONS:
        read = " and ".join(map(str, READABLE_VERSIONS))
        _refuse([f"format_version: bundle {document['format_version']!r}, this code {read}"], where)
    preprocessing = document.get("preprocessing")
    if not isinstance(preprocessing, dict):
        return  # a mistyped key, which the validation names
    names = {field.name for field in fields(Preprocessing)}
    differences = [f"preprocessing.{key}: unknown to this code" for key in sorted(set(preprocessing) - names)]
    differences += [f"preprocessing.{key}: missing in the bundle" for key in sorted(names - set(preprocessing))]
    if not differences:
        try:
            Preprocessing(**preprocessing)
        except (TypeError, ValueError) as error:
            differences = [f"preprocessing: {error}"]
    _refuse(differences, where)


def _refuse(differences: list[str], where: str) -> None:
    if differences:
        raise RefusedError(expected="a bundle whose contract fits", got="; ".join(differences), where=where, fix=FIX)
