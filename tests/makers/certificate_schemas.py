"""Schemas of the kinds of cert-manager that the manifests use, strict, and as far as they use them.

No package index brings them. Written after the CustomResourceDefinitions of cert-manager.io/v1 (1.19) and the checks of
its admission webhook that they say in words: sizes of keys, durations, what excludes what.
"""

from __future__ import annotations

from typing import Any

API = "cert-manager.io/v1"

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_DURATION = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"}
"""As Go's time.ParseDuration takes it: there are no days."""

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


def _kind(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    words = {"apiVersion": {"const": API}, "kind": {"const": name}, "metadata": {"type": "object"}}
    return _strict("apiVersion", "kind", "metadata", "spec", **words, spec=spec)


SCHEMAS = {(API, "Certificate"): _kind("Certificate", _CERTIFICATE), (API, "Issuer"): _kind("Issuer", _ISSUER)}
"""By API and kind."""
