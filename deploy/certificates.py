"""Make what Dask's TLS takes, in FOLDER: an authority and one certificate for scheduler, workers and clients.

python deploy/certificates.py FOLDER

Whoever holds tls.key may run code on the workers. The authority's key is not kept: to add a machine, hand it the same
files; to shut one out, make new ones and start everything anew. What is there already stays.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAYS = 825


def make(folder: Path) -> None:
    """Write ca.crt, tls.crt and tls.key, the last readable for its owner only."""
    if (folder / "tls.key").exists():
        print(f"{folder}: certificates are there")
        return
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("varstar-dask-ca", authority_key.public_key(), "varstar-dask-ca", authority_key, ca=True)
    certificate = _certificate("varstar-dask", key.public_key(), "varstar-dask-ca", authority_key, ca=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(authority.public_bytes(pem))
    (folder / "tls.crt").write_bytes(certificate.public_bytes(pem))
    private = folder / "tls.key"
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    print(f"{folder}: ca.crt, tls.crt, tls.key, good for {DAYS} days")


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
