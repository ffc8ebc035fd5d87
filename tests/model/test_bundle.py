"""Bundles: whole and fitting, or refused with one clear line."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys

import fsspec
import h5py
import numpy as np
import pytest

from tests.makers.models import edit_keras_file, make_bundle, make_contract, paper_model
from varstar_batch.errors import InputError, RefusedError, VarstarError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.model import keras_file
from varstar_batch.model.bundle import Bundle, parse_bundle
from varstar_batch.model.bundle_files import CARD_FILE, CONTRACT_FILE, KERAS_FILE, read_bundle, write_bundle
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.family import Calibration
from varstar_batch.training.fitting.recipes import find_recipe


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle(paper_model())


@pytest.fixture
def folder(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit_contract(folder, **changes):
    document = json.loads((folder / CONTRACT_FILE).read_bytes())
    document.update(changes)
    (folder / CONTRACT_FILE).write_text(json.dumps({key: value for key, value in document.items() if value != "gone"}))


def replace_network(folder, keras_file):
    (folder / KERAS_FILE).write_bytes(keras_file)
    edit_contract(folder, weights_sha256=make_contract(keras_file).weights_sha256)


def assert_refused(folder, error, *parts):
    with pytest.raises(error) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert str(folder) in message


def test_a_bundle_comes_back_as_it_was_written(bundle, folder):
    again = read_bundle(folder)
    assert again == bundle
    assert again.hash == bundle.hash
    assert pickle.loads(pickle.dumps(bundle)) == bundle
    assert sorted(path.name for path in folder.iterdir()) == sorted([CONTRACT_FILE, KERAS_FILE, CARD_FILE])


def test_a_bundle_on_any_filesystem(bundle):
    write_bundle(bundle, "memory://models/one")
    try:
        assert read_bundle("memory://models/one") == bundle
    finally:
        fsspec.filesystem("memory").rm("/models", recursive=True)


def test_the_hash_follows_contract_and_weights(bundle):
    warmer = bundle.contract.model_copy(update={"calibration": Calibration(temperature=2.0)})
    assert Bundle(contract=warmer, keras_file=bundle.keras_file, card="").hash != bundle.hash
    assert make_bundle(paper_model(seed=1)).hash != bundle.hash
    assert Bundle(contract=bundle.contract, keras_file=bundle.keras_file, card="other").hash == bundle.hash


def test_the_shipped_bundle_is_whole_small_and_honest():
    shipped = read_bundle()
    assert shipped.contract.architecture == "survey"
    assert shipped.contract.classes == CLASSES
    assert shipped.contract.preprocessing == find_recipe("survey").preprocessing
    assert shipped.contract.features == FEATURES
    assert len(shipped.keras_file) + len(shipped.contract.to_json()) + len(shipped.card) < 2_000_000
    assert "has seen no real star" not in shipped.card
    assert all(survey in shipped.card for survey in ("crts-south", "crts-north", "ogle-lmc", "hipparcos-ogle"))
    assert shipped.contract.ood is not None
    assert np.all(np.diff(shipped.contract.ood.entropy) >= 0)


def test_reading_and_checking_a_bundle_imports_no_framework():
    code = (
        "import sys; from varstar_batch.model.bundle_files import read_bundle; read_bundle().network();"
        "print(*{'keras', 'tensorflow', 'openvino'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("name", [CONTRACT_FILE, KERAS_FILE, CARD_FILE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert_refused(folder, InputError, f"no {name}")


def test_no_folder_and_a_file_instead_of_one(tmp_path):
    assert_refused(tmp_path / "nowhere", InputError, f"no {CONTRACT_FILE}")
    (tmp_path / "file").write_text("x")
    assert_refused(tmp_path / "file", InputError, f"no {CONTRACT_FILE}")


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", '"text"', "{}", "\xff"])
def test_a_contract_that_is_none(folder, text):
    (folder / CONTRACT_FILE).write_bytes(text.encode("latin-1"))
    assert_refused(folder, InputError, "bundle.json")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"classes": "gone"}, "classes: expected a value"),
        ({"classes": ["RR", "RR"]}, "classes: expected different names"),
        ({"classes": ["RR"]}, "classes: Tuple should have at least 2 items"),
        ({"classes": ["RR", 'S" OR "R']}, "classes.1: String should match pattern"),
        ({"colour": "red"}, "colour: expected a name that is known"),
        ({"calibration": {"temperature": 0}}, "calibration.temperature"),
        ({"calibration": {"temperature": None}}, "calibration.temperature"),
        ({"preprocessing": "gone"}, "preprocessing"),
        ({"preprocessing": [1]}, "preprocessing"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
    ],
)
def test_a_damaged_contract_names_the_key(folder, changes, part):
    edit_contract(folder, **changes)
    assert_refused(folder, InputError, part)


def test_other_weights_than_the_contracts(folder, bundle):
    (folder / KERAS_FILE).write_bytes(bundle.keras_file[:-1])
    assert_refused(folder, InputError, "sha256")


@pytest.mark.parametrize("keras_file", [b"", b"PK\x03\x04 nothing", b"x" * 1000])
def test_a_network_file_that_is_none(folder, keras_file):
    replace_network(folder, keras_file)
    assert_refused(folder, InputError, ".keras file")


def test_a_network_file_cut_short_or_with_damaged_parts(folder, bundle):
    keras_file = bundle.keras_file
    broken = [
        keras_file[: len(keras_file) // 2],
        edit_keras_file(keras_file, **{"model.weights.h5": b"no hdf5"}),
        edit_keras_file(keras_file, **{"config.json": b"[" * 100_000}),
        edit_keras_file(keras_file, lambda config: config.pop("config")),
        edit_keras_file(keras_file, lambda config: config["config"]["layers"].insert(1, None)),
        edit_keras_file(keras_file, lambda config: config["config"]["layers"][1].update(config=3)),
        edit_keras_file(keras_file, lambda config: config["config"]["layers"].pop(1)),
        edit_keras_file(keras_file, lambda config: config["config"]["layers"].reverse()),
        edit_keras_file(keras_file, lambda config: config["config"]["layers"][2]["config"].update(scale=True)),
    ]
    for content in broken:
        replace_network(folder, content)
        assert_refused(folder, InputError, ".keras file")


def preprocessing_with(**changes):
    return {"preprocessing": {**json.loads(make_contract(b"").to_json())["preprocessing"], **changes}}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"format_version": 1}, ["format_version: bundle 1, this code 2"]),
        ({"classes": ["CEP", "RR"]}, ["outputs: contract 2 classes, network 6"]),
        ({"features": ["parallax"]}, ["features: bundle asks for ['parallax']", "input shapes"]),
        (preprocessing_with(n_phase=256), ["input shapes: contract [(256, 1)], network [(512, 1)]"]),
        (preprocessing_with(outliers="wild"), ["preprocessing: outliers", "'wild'"]),
        (preprocessing_with(airmass=1.0), ["preprocessing.airmass: unknown to this code"]),
        ({"preprocessing": {"sigma": 3.0}}, ["preprocessing.n_phase: missing", "preprocessing.scale: missing"]),
    ],
)
def test_a_sound_bundle_that_does_not_fit_is_refused_with_every_difference(folder, changes, parts):
    edit_contract(folder, **changes)
    assert_refused(folder, RefusedError, *parts)


def make_lambda(config):
    config["config"]["layers"][1].update(class_name="Lambda", config={"name": "evil", "function": "__lambda__"})


def make_foreign(config):
    config["config"]["layers"][1].update(module="os", registered_name="evil>System")


def make_hidden(config):
    hidden = {"module": "builtins", "class_name": "function", "config": "system", "registered_name": "function"}
    config["config"]["layers"][1]["config"]["kernel_initializer"] = hidden


def make_compiled(config):
    config["compile_config"] = {"loss": {"module": "os", "class_name": "function", "config": "system"}}


def make_odd_activation(config):
    config["config"]["layers"][1]["config"]["activation"] = "os>system"


def make_no_softmax(config):
    config["config"]["output_layers"] = ["logits", 0, 0]


def make_shared(config):
    layer = config["config"]["layers"][1]
    layer["inbound_nodes"] = layer["inbound_nodes"] * 2


def make_sequential(config):
    config["class_name"] = "Sequential"


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (make_lambda, "Lambda of keras.layers"),
        (make_foreign, "Conv1D of os"),
        (make_hidden, "function of builtins"),
        (make_compiled, "function of os"),
        (make_odd_activation, "activation 'os>system'"),
        (make_no_softmax, "Softmax"),
        (make_shared, "used 2 times"),
        (make_sequential, "Sequential"),
    ],
)
def test_a_network_with_anything_unknown_is_refused_by_name(folder, bundle, edit, part):
    replace_network(folder, edit_keras_file(bundle.keras_file, edit))
    assert_refused(folder, RefusedError, part)


def test_keras_never_opens_what_was_not_checked(bundle, monkeypatch):
    bad = Bundle(contract=bundle.contract, keras_file=edit_keras_file(bundle.keras_file, make_lambda), card="")
    monkeypatch.setattr(
        "varstar_batch.model.engines.keras_engine.from_keras_file", lambda _: pytest.fail("Keras opened it")
    )
    with pytest.raises(RefusedError, match="Lambda"):
        open_engine(bad, "keras")


def weights_file(fill):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def declare_huge(file):
    group = file.create_group("layers/x/vars")
    group.attrs["name"] = "x"
    group.create_dataset("0", shape=(1 << 40,), dtype="f4", chunks=(1024,))


def link_outside(file):
    group = file.create_group("layers/x/vars")
    group.attrs["name"] = "x"
    group["0"] = h5py.ExternalLink("/etc/passwd", "/")


def store_outside(file):
    group = file.create_group("layers/x/vars")
    group.attrs["name"] = "x"
    group.create_dataset("0", shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)])


@pytest.mark.parametrize("fill", [declare_huge, link_outside, store_outside])
def test_weights_that_reach_beyond_their_file(folder, bundle, fill):
    content = edit_keras_file(bundle.keras_file, **{"model.weights.h5": weights_file(fill)})
    replace_network(folder, content)
    assert_refused(folder, InputError, ".keras file")


def test_a_zip_that_unpacks_without_end(folder, bundle, monkeypatch):
    monkeypatch.setattr(keras_file, "MAX_CONFIG_BYTES", 100_000)
    content = edit_keras_file(bundle.keras_file, **{"config.json": b" " * 200_000})
    assert len(content) < 800_000
    replace_network(folder, content)
    assert_refused(folder, InputError, "config.json unpacks to more than 100000 bytes")


def test_writing_over_something_else(bundle, folder, tmp_path):
    with pytest.raises(InputError, match="empty or new folder"):
        write_bundle(bundle, folder)
    write_bundle(bundle, folder, replace=True)
    assert read_bundle(folder) == bundle
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        write_bundle(bundle, folder, replace=True)
    (tmp_path / "file").write_text("x")
    for url in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError):
            write_bundle(bundle, url)
    assert (tmp_path / "file").read_text() == "x"


def test_a_cut_off_replacement_leaves_no_bundle_rather_than_a_mixed_one(bundle, folder, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("varstar_batch.model.bundle.BundleContract.to_json", fail)
    with pytest.raises(MemoryError):
        write_bundle(bundle, folder, replace=True)
    monkeypatch.undo()
    assert_refused(folder, InputError, f"no {CONTRACT_FILE}")


def test_an_unknown_protocol():
    with pytest.raises(InputError):
        read_bundle("nosuch://bucket/bundle")


def test_the_contract_is_checked_without_a_folder_too(bundle):
    with pytest.raises(VarstarError, match="in memory"):
        parse_bundle(b"{}", bundle.keras_file, "", where="in memory")
