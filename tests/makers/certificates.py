"""Certificates of an authority of the tests' own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from varstar_batch.requests import ClusterOptions


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> ClusterOptions:
    """Make an authority and a certificate with openssl."""
    folder.mkdir()
    new = ("-newkey", "rsa:2048", "-nodes")
    openssl(folder, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "2")
    openssl(folder, "req", *new, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=varstar")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(folder, "x509", "-req", "-in", "tls.csr", *signing, "-out", "tls.crt")
    ca, cert, key = (str(folder / name) for name in ("ca.crt", "tls.crt", "tls.key"))
    return ClusterOptions(tls_ca=ca, tls_cert=cert, tls_key=key)
