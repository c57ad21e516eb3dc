"""A private certificate authority and a certificate for each service: for a trial, and for tests. Bring your own for more.

`python -m stack certificates FOLDER` writes what `stack/security.py` reads.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from stack.errors import StackError
from stack.security import KAFKA_ADMIN, KAFKA_USER
from stack.settings import Settings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateBuilder, GeneralName, Name

SERVICES: Mapping[str, str] = {"kafka": "KAFKA", "cassandra": "CASSANDRA", "postgres": "POSTGRES"}
"""Who shows a certificate, with the name of its host in `Settings.host`."""
_DAYS = 365


def make_certificates(settings: Settings, folder: Path) -> None:
    """Writes the authority's certificate, each service's key and certificate, and Kafka's logins; only the first for all to read.

    The authority's own key is kept nowhere: what it has signed is all that it will ever sign.

    :raises StackError: there is a certificate already: it is never overwritten.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if (folder / "ca.pem").exists():
        raise StackError(f"{folder} holds certificates already: delete the folder to make others")
    folder.mkdir(parents=True, exist_ok=True)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Tallyclerk trial")])
    authority = (
        _builder(authority_name, authority_name)
        .public_key(authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    for service, name in SERVICES.items():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, service)])
        names = dict.fromkeys((settings.host(name), service, "localhost", "127.0.0.1"))
        certificate = (
            _builder(subject, authority_name)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in names]), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(folder / f"{service}.pem", [private, _pem(certificate), _pem(authority)])
    for name, text in _kafka_logins(settings).items():
        _write(folder / name, [text.encode()])
    # last: what is half done is not taken for done
    _write(folder / "ca.pem", [_pem(authority)], mode=0o644)


def _builder(subject: Name, issuer: Name) -> CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
    )


def _general_name(text: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _kafka_logins(settings: Settings) -> Mapping[str, str]:
    """The broker's login with the users that it knows, and the Connect worker's, as their configuration providers read them."""
    passwords = {KAFKA_ADMIN: settings.secret("KAFKA_BROKER_PASSWORD"), KAFKA_USER: settings.secret("KAFKA_PASSWORD")}
    broker, client = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{user}" password="{passwords[user]}"'
        for user in (KAFKA_ADMIN, KAFKA_USER)
    )
    known = " ".join(f'user_{user}="{password}"' for user, password in passwords.items())
    return {"kafka.properties": f"broker={broker} {known};\n", "kafka-client.properties": f"client={client};\n"}


def _write(path: Path, parts: Iterable[bytes], *, mode: int = 0o600) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.writelines(parts)
