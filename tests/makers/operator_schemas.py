"""Schemas of the kinds of other operators that the manifests use, strict, and as far as they use them.

No package index brings them. Written after the CustomResourceDefinitions of cert-manager.io/v1 (1.19), with what its
admission webhook checks (sizes of keys, durations, what excludes what), monitoring.coreos.com/v1 and keda.sh/v1alpha1.
"""

from __future__ import annotations

from typing import Any

API = "cert-manager.io/v1"

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_DURATION = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"}
"""As Go's time.ParseDuration takes it: there are no days."""

_PROMETHEUS_TRIGGER = ("serverAddress", "query", "threshold", "activationThreshold")
"""Settings of KEDA's scaler `prometheus`; all are texts."""

_USAGES = (
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
)


def _strict(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _sizes(algorithm: str, *sizes: int) -> dict[str, Any]:
    chosen = {"properties": {"algorithm": {"const": algorithm}}, "required": ["algorithm"]}
    return {"if": chosen, "then": {"properties": {"size": {"enum": list(sizes)}}}}


_KEY = _strict(
    algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
    encoding={"enum": ["PKCS1", "PKCS8"]},
    rotationPolicy={"enum": ["Never", "Always"]},
    size={"type": "integer"},
) | {"allOf": [_sizes("RSA", 2048, 4096, 8192), _sizes("ECDSA", 256, 384, 521)]}

_CERTIFICATE = _strict(
    "secretName",
    "issuerRef",
    commonName={"type": "string", "maxLength": 64},
    dnsNames=_list(_TEXT),
    ipAddresses=_list(_TEXT),
    duration=_DURATION,
    isCA={"type": "boolean"},
    issuerRef=_strict("name", name=_TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]}, group=_TEXT),
    privateKey=_KEY,
    renewBefore=_DURATION,
    secretName=_TEXT,
    usages=_list({"enum": list(_USAGES)}),
) | {"anyOf": [{"required": [name]} for name in ("commonName", "dnsNames", "ipAddresses")]}

_ISSUER = _strict(
    ca=_strict("secretName", secretName=_TEXT, crlDistributionPoints=_list(_TEXT)),
    selfSigned=_strict(crlDistributionPoints=_list(_TEXT)),
) | {"minProperties": 1, "maxProperties": 1}


_MATCH = _strict(
    "key", "operator", key=_TEXT, operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]}, values=_list(_TEXT)
)
_POD_MONITOR = _strict(
    "selector",
    "podMetricsEndpoints",
    selector=_strict(matchExpressions=_list(_MATCH), matchLabels={"type": "object"}),
    podMetricsEndpoints=_list(
        _strict("port", port=_TEXT, path={"type": "string", "pattern": "^/"}, interval=_DURATION)
    ),
)
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_ALERT = _strict("alert", "expr", alert=_TEXT, expr=_TEXT, labels=_TEXTS, annotations=_TEXTS, **{"for": _DURATION})
_RULES = _strict("groups", groups=_list(_strict("name", "rules", name=_TEXT, rules=_list(_ALERT))))
_COUNT = {"type": "integer", "minimum": 0}
_SCALED_OBJECT = _strict(
    "scaleTargetRef",
    "triggers",
    scaleTargetRef=_strict("name", apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
    minReplicaCount=_COUNT,
    maxReplicaCount=_COUNT,
    pollingInterval=_COUNT,
    cooldownPeriod=_COUNT,
    triggers=_list(
        _strict(
            "type",
            "metadata",
            type={"const": "prometheus"},
            metadata=_strict("serverAddress", "query", "threshold", **dict.fromkeys(_PROMETHEUS_TRIGGER, _TEXT)),
        )
    ),
)


def _kind(api: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    words = {"apiVersion": {"const": api}, "kind": {"const": name}, "metadata": {"type": "object"}}
    return _strict("apiVersion", "kind", "metadata", "spec", **words, spec=spec)


_KINDS = {
    (API, "Certificate"): _CERTIFICATE,
    (API, "Issuer"): _ISSUER,
    ("monitoring.coreos.com/v1", "PodMonitor"): _POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _RULES,
    ("keda.sh/v1alpha1", "ScaledObject"): _SCALED_OBJECT,
}

SCHEMAS = {(api, kind): _kind(api, kind, spec) for (api, kind), spec in _KINDS.items()}
"""By API and kind."""
