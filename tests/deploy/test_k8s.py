"""Kubernetes manifests: valid, restricted, without secrets, and whatever is broken in them is noticed."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.makers.manifests import (
    Manifest,
    name_of,
    pods,
    problems,
    problems_of,
    talks,
    together,
)
from varstar_batch._version import __version__

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("local", "cpu", "gpu", "production")
FLOW = {"app.kubernetes.io/name": "varstar-flow"}

pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: pip install '.[test]'")
pytest.importorskip("dask_kubernetes", reason="needs dask-kubernetes: pip install '.[kubernetes]'")


@functools.cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which this machine does not have")
    words = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def manifests(overlay: str = "production") -> list[Manifest]:
    """Return what an overlay renders, to be changed at will."""
    return copy.deepcopy(list(rendered(overlay)))


def find(among: list[Manifest], name: str) -> Manifest:
    return next(each for each in among if name_of(each) == name)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_wrong_with_an_overlay(overlay: str) -> None:
    assert problems(manifests(overlay)) == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.30", "1.34"])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_validate_itself_accepts_them(overlay: str, version: str, tmp_path: Path) -> None:
    import sys

    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(manifests(overlay)))
    words = [sys.executable, "-m", "kubernetes_validate", "-k", version, "--strict", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("passed") >= 25
    assert "ERROR" not in done.stdout


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_that_is_broken_is_noticed(overlay: str) -> None:
    for manifest in manifests(overlay):
        broken = copy.deepcopy(manifest)
        broken["specification"] = {}
        assert problems_of(broken), f"{name_of(manifest)} with an unknown field"
        inside = next((key for key in ("spec", "rules", "subjects") if key in broken), None)
        if inside is None:
            continue
        broken = copy.deepcopy(manifest)
        place = broken[inside] if isinstance(broken[inside], dict) else broken[inside][0]
        place["replicaz"] = 1
        assert problems_of(broken), f"{name_of(manifest)} with an unknown field in {inside}"


def container(manifest: Manifest, part: str = "") -> Any:
    return next(spec for name, _, spec in pods(manifest) if part in name)["containers"][0]


BREAKAGES: list[tuple[str, Callable[[Manifest], Any], str]] = [
    ("Deployment/prefect-server", lambda m: m["spec"].update(replicas="one"), "not of type"),
    ("Deployment/prefect-server", lambda m: m["spec"]["template"]["spec"].update(hostNetwork=True), "hostNetwork"),
    (
        "Deployment/prefect-server",
        lambda m: m["spec"]["template"]["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        "not allowed",
    ),
    ("Deployment/prefect-server", lambda m: container(m).pop("livenessProbe"), "no livenessProbe"),
    ("Deployment/prefect-server", lambda m: container(m).update(image="varstar-batch"), "not pinned"),
    (
        "Deployment/prefect-server",
        lambda m: container(m)["env"].append({"name": "PREFECT_API_KEY", "value": "pnu_1"}),
        "by value",
    ),
    (
        "Deployment/prefect-worker",
        lambda m: container(m)["env"].append({"name": "X", "value": "postgresql://prefect:pass@db/prefect"}),
        "literal",
    ),
    ("Deployment/prefect-worker", lambda m: container(m).pop("securityContext"), "allowPrivilegeEscalation"),
    ("Deployment/prefect-worker", lambda m: container(m)["securityContext"].update(privileged=True), "privileged"),
    (
        "Deployment/prefect-worker",
        lambda m: container(m)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        "adds capabilities",
    ),
    ("Deployment/prefect-worker", lambda m: container(m)["ports"][0].update(hostPort=8080), "host port"),
    ("Deployment/prefect-worker", lambda m: m["spec"]["template"]["spec"].pop("serviceAccountName"), "service account"),
    ("DaskCluster/varstar", lambda m: m["spec"]["worker"].update(replicas="two"), "not of type"),
    ("DaskCluster/varstar", lambda m: m["spec"].pop("scheduler"), "required"),
    ("DaskCluster/varstar", lambda m: container(m, "worker").update(imagee="x"), "imagee"),
    (
        "DaskCluster/varstar",
        lambda m: container(m, "worker")["securityContext"].update(readOnlyRootFilesystem=False),
        "can write",
    ),
    ("DaskCluster/varstar", lambda m: container(m, "scheduler")["resources"].pop("limits"), "no limits of memory"),
    ("DaskCluster/varstar", lambda m: container(m, "worker").pop("readinessProbe"), "no readinessProbe"),
    (
        "DaskCluster/varstar",
        lambda m: m["spec"]["worker"]["spec"]["securityContext"].update(runAsUser=0),
        "may run as root",
    ),
    (
        "DaskWorkerGroup/varstar-gpu",
        lambda m: m["spec"]["worker"]["spec"]["securityContext"].pop("seccompProfile"),
        "seccomp",
    ),
    ("DaskWorkerGroup/varstar-gpu", lambda m: m["spec"].update(cluster=7), "not of type"),
    ("DaskAutoscaler/varstar", lambda m: m["spec"].update(maximum="many"), "not of type"),
    ("Role/prefect-worker", lambda m: m["rules"][0].update(verbs=["*"]), "wildcard"),
    ("Role/prefect-worker", lambda m: m["rules"][0].update(resources=["secrets"]), "rights on"),
    ("RoleBinding/prefect-worker", lambda m: m.pop("roleRef"), "required"),
    ("ServiceAccount/varstar-dask", lambda m: m["metadata"].update(name="other"), "no ServiceAccount"),
    ("ConfigMap/varstar-environment", lambda m: m["metadata"].update(name="other"), "no ConfigMap"),
    ("ConfigMap/varstar-environment", lambda m: m["data"].update(AWS_SECRET_ACCESS_KEY="abc"), "by value"),
    ("NetworkPolicy/default-deny", lambda m: m["spec"].update(podSelector={"matchLabels": {"a": "b"}}), "by default"),
    (
        "NetworkPolicy/dask-worker",
        lambda m: m["spec"].update(podSelector={"matchLabels": {"a": "b"}}),
        "no NetworkPolicy",
    ),
    (
        "PodDisruptionBudget/dask-worker",
        lambda m: m["spec"]["selector"].update(matchLabels={"a": "b"}),
        "no PodDisruptionBudget",
    ),
    ("Service/prefect-server", lambda m: m["spec"].update(selector={"a": "b"}), "chooses no pod"),
    ("Certificate/varstar-dask", lambda m: m["spec"].pop("issuerRef"), "'issuerRef' is a required property"),
    ("Certificate/varstar-dask", lambda m: m["spec"]["issuerRef"].pop("name"), "'name' is a required property"),
    ("Certificate/varstar-dask", lambda m: m["spec"]["issuerRef"].update(kind="Isuer"), "'Isuer' is not one of"),
    ("Certificate/varstar-dask", lambda m: m["spec"].update(duration="365d"), "'365d' does not match"),
    ("Certificate/varstar-dask", lambda m: m["spec"].update(usages=["server-auth"]), "'server-auth' is not one of"),
    ("Certificate/varstar-dask", lambda m: m["spec"]["privateKey"].update(size=2048), "2048 is not one of"),
    ("Certificate/varstar-dask", lambda m: m["spec"]["privateKey"].update(algorithm="EC"), "'EC' is not one of"),
    ("Certificate/varstar-dask", lambda m: m["spec"].update(dnsNames="varstar"), "is not of type 'array'"),
    ("Certificate/varstar-dask", lambda m: m["spec"].update(commonName="n" * 65), "is too long"),
    ("Certificate/varstar-dask-ca", lambda m: m["spec"].update(isCA="yes"), "'yes' is not of type 'boolean'"),
    ("Certificate/varstar-dask-ca", lambda m: m["spec"].pop("commonName"), "$.spec: "),
    ("Issuer/varstar-dask-ca", lambda m: m["spec"]["ca"].pop("secretName"), "'secretName' is a required property"),
    ("Issuer/varstar-dask-ca", lambda m: m["spec"].update(selfSigned={}), "too many properties"),
    ("Issuer/varstar-selfsigned", lambda m: m.update(apiVersion="cert-manager.io/v2"), "no schema of Issuer"),
    ("Namespace/varstar", lambda m: m.update(kind="Secret"), "Secret"),
    ("PodMonitor/varstar", lambda m: m["spec"].pop("selector"), "'selector' is a required property"),
    ("PrometheusRule/varstar", lambda m: m["spec"]["groups"][0]["rules"][0].pop("expr"), "'expr' is a required"),
    ("ScaledObject/varstar-gpu", lambda m: m["spec"].update(maxReplicaCount="8"), "is not of type 'integer'"),
    ("Ingress/prefect", lambda m: m["spec"].update(tls="yes"), "is not of type"),
]


@pytest.mark.parametrize(("name", "change", "said"), BREAKAGES, ids=[f"{n}-{s}" for n, _, s in BREAKAGES])
def test_each_breakage_is_named(name: str, change: Callable[[Manifest], Any], said: str) -> None:
    all_of_them = manifests()
    broken = find(all_of_them, name)
    change(broken)
    found = [*problems_of(broken), *together(all_of_them)]
    assert any(said in line for line in found), found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_namespaces_enforce_the_restricted_level(overlay: str) -> None:
    labels = find(manifests(overlay), "Namespace/varstar")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    names = {each["metadata"].get("namespace", "varstar") for each in manifests(overlay)}
    assert names == {"varstar"}


CALLERS = {
    "flow": ("varstar", FLOW),
    "stranger": ("varstar", {"app.kubernetes.io/name": "stranger"}),
    "operator": ("dask-operator", {}),
    "monitoring": ("monitoring", {}),
    "ingress": ("ingress-nginx", {}),
    "elsewhere": ("default", {}),
}

TALKS = {
    ("prefect-worker", "prefect-server", 4200),
    ("flow", "prefect-server", 4200),
    ("flow", "varstar-scheduler", 8786),
    ("varstar-worker", "varstar-scheduler", 8786),
    ("varstar-gpu", "varstar-scheduler", 8786),
    ("varstar-scheduler", "varstar-worker", 8789),
    ("varstar-scheduler", "varstar-gpu", 8789),
    ("varstar-worker", "varstar-gpu", 8789),
    ("varstar-gpu", "varstar-worker", 8789),
    ("operator", "varstar-scheduler", 8787),
    ("monitoring", "varstar-scheduler", 8787),
    ("monitoring", "varstar-worker", 8788),
    ("monitoring", "varstar-gpu", 8788),
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_what_must_talk_talks(overlay: str) -> None:
    gpu = overlay in {"gpu", "production"}
    expected = {each for each in TALKS if gpu or "varstar-gpu" not in each}
    if overlay == "production":
        expected |= {("ingress", "prefect-server", 4200), ("ingress", "varstar-scheduler", 8787)}
    else:
        expected |= {("prefect-server", "postgres", 5432)}
    assert talks(manifests(overlay), CALLERS) == expected


@pytest.mark.parametrize("overlay", ["gpu", "production"])
def test_gpu_workers_say_so_and_are_placed_on_gpus(overlay: str) -> None:
    ((_, _, spec),) = pods(find(manifests(overlay), "DaskWorkerGroup/varstar-gpu"))
    (it,) = spec["containers"]
    assert "--resources=GPU=1" in it["args"]
    assert it["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"


IMAGES = {"varstar-gpu": "varstar-batch-gpu", "postgres": "postgres"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_has_the_image_for_it(overlay: str) -> None:
    registry = "registry.example.org/varstar/" if overlay == "production" else ""
    for manifest in manifests(overlay):
        for name, _, spec in pods(manifest):
            image, _, tag = spec["containers"][0]["image"].partition(":")
            assert image.removeprefix(registry) == IMAGES.get(name, "varstar-batch-cpu"), name
            assert image.startswith(registry) or name == "postgres"
            assert name == "postgres" or tag == __version__


def test_one_digest_reaches_one_image(tmp_path: Path) -> None:
    """`kustomize edit set image` writes such lines."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which this machine does not have")
    digests = {name: f"sha256:{digit * 64}" for name, digit in (("cpu", "a"), ("gpu", "b"))}
    images = [
        {"name": f"registry.example.org/varstar/varstar-batch-{name}", "digest": digest}
        for name, digest in digests.items()
    ]
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "site").mkdir()
    own = {"resources": ["../k8s/overlays/production"], "images": images}
    (tmp_path / "site" / "kustomization.yaml").write_text(yaml.safe_dump(own))
    words = ["kubectl", "kustomize", str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = {
        name: spec["containers"][0]["image"]
        for manifest in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)
        for name, _, spec in pods(manifest)
    }
    assert {image.rpartition("@")[2] for name, image in found.items() if name != "varstar-gpu"} == {digests["cpu"]}
    assert found["varstar-gpu"].endswith("varstar-batch-gpu@" + digests["gpu"])


def test_gpu_workers_are_scaled_to_what_waits_and_to_zero() -> None:
    scaled = find(manifests(), "ScaledObject/varstar-gpu")["spec"]
    group = find(manifests(), "DaskWorkerGroup/varstar-gpu")
    target = scaled["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (group["apiVersion"], group["kind"])
    assert group["spec"]["worker"]["replicas"] == scaled["minReplicaCount"] == 0
    # The metric is the scheduler's, which has to be started so that it tells it.
    assert scaled["triggers"][0]["metadata"]["query"].startswith("sum(varstar_gpu_tasks")
    assert (
        "--preload=varstar_batch.cluster.preload"
        in container(find(manifests(), "DaskCluster/varstar"), "scheduler")["args"]
    )


def test_prometheus_scrapes_ports_that_pods_have() -> None:
    (endpoint,) = find(manifests(), "PodMonitor/varstar")["spec"]["podMetricsEndpoints"]
    for manifest in manifests():
        for name, labels, spec in pods(manifest):
            if "dask.org/component" in labels:
                assert endpoint["port"] in {port["name"] for port in spec["containers"][0]["ports"]}, name


def test_from_outside_by_tls_and_a_password_only() -> None:
    for manifest in manifests():
        if manifest["kind"] == "Ingress":
            spec = manifest["spec"]
            hosts = {rule["host"] for rule in spec["rules"]}
            assert {host for tls in spec["tls"] for host in tls["hosts"]} == hosts == {"varstar.example.org"}
            assert all(tls["secretName"] for tls in spec["tls"])
            services = {path["backend"]["service"]["name"] for rule in spec["rules"] for path in rule["http"]["paths"]}
            # Prefect asks by itself.
            own = services == {"prefect-server"}
            assert own or manifest["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-type"] == "basic"
    environment = container(find(manifests(), "Deployment/prefect-server"))["env"]
    names = [each["name"] for each in environment]
    assert "PREFECT_SERVER_API_AUTH_STRING" in names
    assert names.index("VARSTAR_HOST") < names.index("PREFECT_SERVER_CORS_ALLOWED_ORIGINS")
    origins = next(each for each in environment if each["name"] == "PREFECT_SERVER_CORS_ALLOWED_ORIGINS")
    assert origins["value"] == "https://$(VARSTAR_HOST)"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_of_dask_speaks_tls_only(overlay: str) -> None:
    environment = find(manifests(overlay), "ConfigMap/varstar-environment")["data"]
    assert environment["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
    for manifest in manifests(overlay):
        for name, labels, spec in pods(manifest):
            if "dask.org/component" not in labels:
                continue
            words = container(manifest, name)["args"]
            variables = {each["name"]: each.get("value") for each in container(manifest, name)["env"]}
            assert "--protocol=tls" in words or variables["DASK_SCHEDULER_ADDRESS"] == "tls://varstar-scheduler:8786"
            (volume,) = (each for each in spec["volumes"] if each["name"] == "tls")
            assert volume["secret"] == {"secretName": "varstar-dask-tls", "defaultMode": 0o440}
    made = [each["spec"]["secretName"] for each in manifests(overlay) if name_of(each) == "Certificate/varstar-dask"]
    assert made == (["varstar-dask-tls"] if overlay == "production" else [])


def templates(value: Any) -> list[dict[str, Any]]:
    """Return every template of a pod within a manifest: what has metadata beside containers."""
    if isinstance(value, list):
        return [found for each in value for found in templates(each)]
    if not isinstance(value, dict):
        return []
    is_one = "metadata" in value and "containers" in value.get("spec", {})
    return [value] * is_one + [found for each in value.values() for found in templates(each)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_monitoring_is_told_where_to_look_and_may(overlay: str) -> None:
    reached = {(name, port) for caller, name, port in TALKS if caller == "monitoring"}
    for kind, names in (("DaskCluster", ["scheduler", "worker"]), ("DaskWorkerGroup", ["gpu"])):
        found = [each for each in manifests(overlay) if each["kind"] == kind]
        for template, name in zip(templates(found), names, strict=bool(found)):
            said = template["metadata"]["annotations"]
            ports = [port["containerPort"] for port in template["spec"]["containers"][0]["ports"]]
            assert (said["prometheus.io/scrape"], said["prometheus.io/path"]) == ("true", "/metrics")
            assert int(said["prometheus.io/port"]) in ports
            assert (f"varstar-{name}", int(said["prometheus.io/port"])) in reached


def asked(overlay: str) -> tuple[float, float, int]:
    """Return cores, GiB and GPUs that the pods of an overlay ask for, before the autoscaler adds any."""
    from kubernetes.utils.quantity import parse_quantity

    cores = memory = gpus = 0
    for manifest in manifests(overlay):
        for name, _, spec in pods(manifest):
            group = manifest["spec"].get("worker", manifest["spec"])
            replicas = 1 if name.endswith("-scheduler") else group["replicas"]
            for it in spec["containers"]:
                wanted = it["resources"]["requests"]
                cores += replicas * parse_quantity(wanted["cpu"])
                memory += replicas * parse_quantity(wanted["memory"])
                gpus += replicas * int(wanted.get("nvidia.com/gpu", 0))
    return float(cores), float(memory / 2**30), gpus


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_guide_says_what_an_overlay_asks_for(overlay: str) -> None:
    cores, memory, gpus = asked(overlay)
    assert f"| `{overlay}` | {cores:g} | {memory:g} | {gpus} |" in (ROOT / "deploy/README.md").read_text()
