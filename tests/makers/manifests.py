"""What must hold of Kubernetes manifests: schemas, the restricted level of pod security, this project's own rules."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.makers.operator_schemas import SCHEMAS

Manifest = dict[str, Any]

VERSIONS = ("1.30", "1.34")
"""Of Kubernetes, against which all is validated."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""That the restricted level allows."""

CUSTOM = ("kubernetes.dask.org/", "cert-manager.io/", "monitoring.coreos.com/", "keda.sh/")
"""APIs of operators."""

SECRET_NAME = re.compile(r"(KEY|SECRET|PASSW|TOKEN|AUTH|CREDENTIAL|CONNECTION_URL)", re.IGNORECASE)
HARMLESS = re.compile(r"(_SECRET_NAME|_SECRET_KEY)$")
LITERALS = re.compile(r"AKIA[0-9A-Z]{12}|-----BEGIN|://[^/\s{}()]+:[^/\s]+@|xox[bp]-|ghp_[0-9A-Za-z]{20}")


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifest: Manifest) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield the pods that a manifest brings about: name, labels, specification."""
    kind, spec, name = manifest["kind"], manifest.get("spec", {}), manifest["metadata"]["name"]
    dask = {"dask.org/cluster-name": name}
    if kind in {"Deployment", "StatefulSet", "Job"}:
        template = spec["template"]
        yield name, template["metadata"]["labels"], template["spec"]
    elif kind == "DaskCluster":
        for part in ("scheduler", "worker"):
            if part in spec:
                yield f"{name}-{part}", dask | {"dask.org/component": part}, spec[part]["spec"]
    elif kind == "DaskWorkerGroup":
        labels = {"dask.org/cluster-name": spec["cluster"], "dask.org/component": "worker"}
        yield name, labels, spec["worker"]["spec"]


def problems(manifests: Sequence[Manifest]) -> list[str]:
    """Return everything that is wrong with what an overlay renders, one line each."""
    found = [line for manifest in manifests for line in problems_of(manifest)]
    return found + together(manifests)


def problems_of(manifest: Manifest) -> list[str]:
    """Return what is wrong with a manifest by itself."""
    found = [*schema_problems(manifest), *literal_problems(manifest), *rbac_problems(manifest)]
    for name, labels, spec in pods(manifest):
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        found += [f"pod {line}" for line in kubernetes_problems(wrapped)]
        found += [f"pod {name}: {line}" for line in (*restricted_problems(spec), *house_problems(spec))]
    return [f"{name_of(manifest)}: {line}" for line in found]


def schema_problems(manifest: Manifest) -> list[str]:
    if manifest["apiVersion"].startswith(CUSTOM):
        return custom_problems(manifest)
    return kubernetes_problems(manifest)


def kubernetes_problems(manifest: Manifest) -> list[str]:
    """Validate strictly, as `kubernetes-validate --strict` does, with its schemas read once."""
    return [
        f"{version}: {error.json_path}: {error.message}"
        for version in VERSIONS
        for error in _validator(version, manifest["kind"], manifest["apiVersion"]).iter_errors(manifest)
    ]


@functools.cache
def _validator(version: str, kind: str, api: str) -> Any:
    import jsonschema
    from kubernetes_validate import utils
    from referencing import Registry, Resource

    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    schema = utils.schema_contents(f"{folder}/{kind.lower()}-{short}.json", version)
    registry: Any = Resource.from_contents(_definitions(folder, version)) @ Registry()
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def _definitions(folder: str, version: str) -> Any:
    from kubernetes_validate import utils

    return utils.schema_contents(f"{folder}/_definitions.json", version)


@functools.cache
def custom_schemas() -> dict[tuple[str, str], Any]:
    """Return the schemas of the operators' kinds; Dask's made strict, since a server drops unknown fields."""
    spec = importlib.util.find_spec("dask_kubernetes")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    schemas = dict(SCHEMAS)
    for file in folder.glob("*.yaml"):
        for found in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
            if found and found["kind"] == "CustomResourceDefinition":
                for version in found["spec"]["versions"]:
                    key = (f"{found['spec']['group']}/{version['name']}", found["spec"]["names"]["kind"])
                    schema = version["schema"]["openAPIV3Schema"]
                    schema["properties"] = {"apiVersion": {}, "kind": {}, "metadata": {}} | schema["properties"]
                    schemas[key] = _strict(schema)
    return schemas


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    known = isinstance(made.get("properties"), dict) and "type" in made
    if known and "additionalProperties" not in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def custom_problems(manifest: Manifest) -> list[str]:
    import jsonschema

    schema = custom_schemas().get((manifest["apiVersion"], manifest["kind"]))
    if schema is None:
        return [f"no schema of {manifest['kind']} in {manifest['apiVersion']}"]
    errors = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def restricted_problems(spec: Manifest) -> list[str]:
    """Return what the restricted level of pod security forbids (with the baseline level, which it includes)."""
    found = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    pod = spec.get("securityContext", {})
    strange = [volume for volume in spec.get("volumes", []) if not (set(volume) - {"name"}) <= VOLUMES]
    found += [f"volume {volume['name']} is of a kind that is not allowed" for volume in strange]
    if pod.get("sysctls"):
        found.append("sysctls are set")
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        context = container.get("securityContext", {})
        both = pod | context
        said = {
            "privileged": context.get("privileged", False),
            "allowPrivilegeEscalation is not false": context.get("allowPrivilegeEscalation") is not False,
            "may run as root": both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0,
            "has no seccomp profile": both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"},
            "does not drop ALL capabilities": "ALL" not in context.get("capabilities", {}).get("drop", []),
            "adds capabilities": not set(context.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "has a host port": any("hostPort" in port for port in container.get("ports", [])),
            "has a procMount": context.get("procMount", "Default") != "Default",
        }
        found += [f"container {container['name']} {what}" for what, wrong in said.items() if wrong]
    return found


def house_problems(spec: Manifest) -> list[str]:
    """Return what this project asks beyond that."""
    found = []
    if spec.get("enableServiceLinks") is not False:
        found.append("service links would set variables that are taken for settings")
    if not spec.get("serviceAccountName"):
        found.append("no service account of its own")
    for container in spec["containers"]:
        resources = container.get("resources", {})
        for sort in ("requests", "limits"):
            lacking = {"cpu", "memory", "ephemeral-storage"} - set(resources.get(sort, {}))
            found += [f"container {container['name']} has no {sort} of {what}" for what in sorted(lacking)]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            found.append(f"container {container['name']} can write to its root file system")
        writable = [each for each in container.get("volumeMounts", []) if each["mountPath"] == "/tmp"]
        if not writable:
            found.append(f"container {container['name']} has no /tmp")
        if re.search(r":latest$|^[^:@]+$", container["image"]):
            found.append(f"image {container['image']} is not pinned")
    return found


def probe_problems(spec: Manifest) -> list[str]:
    """Return which probes lack; jobs need none."""
    return [
        f"container {container['name']} has no {probe}"
        for container in spec["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe not in container
    ]


def literal_problems(manifest: Manifest) -> list[str]:
    """Return secrets that stand in a manifest, instead of the name of a Secret."""
    if manifest["kind"] == "Secret":
        return ["a Secret with its content"]
    found = [f"literal {match[0][:12]}..." for match in LITERALS.finditer(yaml.safe_dump(manifest))]
    for name, value in [*_variables(manifest), *(manifest.get("data", {}).items())]:
        secret = SECRET_NAME.search(name) and not HARMLESS.search(name)
        if secret and isinstance(value, str) and not value.startswith("/"):
            found.append(f"{name} is given by value")
    return found


def _variables(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, list):
        for each in content:
            yield from _variables(each)
    elif isinstance(content, dict):
        if isinstance(content.get("name"), str) and "value" in content:
            yield content["name"], content["value"]
        for value in content.values():
            yield from _variables(value)


def rbac_problems(manifest: Manifest) -> list[str]:
    if manifest["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
        return ["rights in the whole cluster"]
    found = []
    for rule in manifest.get("rules", []) if manifest["kind"] == "Role" else []:
        if "*" in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]:
            found.append("a rule with a wildcard")
        if {"secrets", "pods/exec", "roles", "rolebindings"} & set(rule["resources"]):
            found.append(f"rights on {rule['resources']}")
    return found


def together(manifests: Sequence[Manifest]) -> list[str]:
    """Return what does not fit together: names that nobody has, pods without policy, probes or disruption budget."""
    there = {name_of(manifest) for manifest in manifests}
    found = []
    for manifest in manifests:
        for name, labels, spec in pods(manifest):
            where = f"{name_of(manifest)}: pod {name}"
            wanted = {f"ServiceAccount/{spec.get('serviceAccountName')}"}
            wanted |= {f"ConfigMap/{each}" for each in _named(spec, "configMap", "configMapRef", "configMapKeyRef")}
            found += [f"{where}: there is no {each}" for each in sorted(wanted - there)]
            found += [f"{where}: {line}" for line in probe_problems(spec)]
            for kind in ("PodDisruptionBudget", "NetworkPolicy"):
                chosen = [each for each in manifests if each["kind"] == kind and _chooses(each, labels)]
                if not [each for each in chosen if each["spec"].get("selector", each["spec"].get("podSelector"))]:
                    found.append(f"{where}: no {kind} for it")
        if manifest["kind"] == "Service" and not any(
            manifest["spec"]["selector"].items() <= labels.items() for each in manifests for _, labels, _ in pods(each)
        ):
            found.append(f"{name_of(manifest)}: chooses no pod")
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(each["kind"] == "NetworkPolicy" and each["spec"] == closed for each in manifests):
        found.append("no NetworkPolicy that denies by default")
    return found


def _named(content: Any, *keys: str) -> Iterator[str]:
    if isinstance(content, list):
        for each in content:
            yield from _named(each, *keys)
    elif isinstance(content, dict):
        for key, value in content.items():
            if key in keys and isinstance(value, dict) and "name" in value:
                yield value["name"]
            else:
                yield from _named(value, *keys)


def _chooses(manifest: Manifest, labels: Manifest) -> bool:
    selector = manifest["spec"].get("selector", manifest["spec"].get("podSelector"))
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def talks(manifests: Sequence[Manifest], callers: dict[str, tuple[str, Manifest]]) -> set[tuple[str, str, int]]:
    """Return who may open a connection to whom, and at which port, by the network policies of both sides.

    Parameters
    ----------
    manifests : sequence of dict
    callers : dict
        By name, namespace and labels of whoever is not among the manifests.
    """
    ours = {name: ("varstar", labels) for each in manifests for name, labels, _ in pods(each)}
    ours |= {name: place for name, place in callers.items() if place[0] == "varstar"}
    policies = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
    everybody = ours | callers
    return {
        (source, target, port)
        for target, (_, labels) in ours.items()
        for source, (namespace, theirs) in everybody.items()
        for port in PORTS
        if source != target
        and _lets(policies, "ingress", "from", labels, (namespace, theirs), port)
        and (namespace != "varstar" or _lets(policies, "egress", "to", theirs, ("varstar", labels), port))
    }


PORTS = (80, 443, 4200, 5432, 6443, 8080, 8786, 8787, 8788, 8789)


def _lets(
    policies: Sequence[Manifest], way: str, key: str, labels: Manifest, other: tuple[str, Manifest], port: int
) -> bool:
    chosen = [
        each
        for each in policies
        if way.capitalize() in each["policyTypes"]
        and each["podSelector"].get("matchLabels", {}).items() <= labels.items()
    ]
    return not chosen or any(
        (key not in rule or any(_peer(peer, other) for peer in rule[key]))
        and ("ports" not in rule or any(each["port"] == port for each in rule["ports"]))
        for policy in chosen
        for rule in policy.get(way, [])
    )


def _peer(peer: Manifest, other: tuple[str, Manifest]) -> bool:
    namespace, labels = other
    if "namespaceSelector" in peer:
        if peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] != namespace:
            return False
    elif namespace != "varstar":
        return False
    return bool(peer.get("podSelector", {}).get("matchLabels", {}).items() <= labels.items())
