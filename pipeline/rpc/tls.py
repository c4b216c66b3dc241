"""Mutual TLS with an authority per run: who cannot read the run's `tls` folder cannot talk to its processes.

Host names are checked, so every process has a certificate for its own address and issues it itself; hence every worker
can read the authority's key. That is the trust boundary: the run folder, which belongs to one user.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shlex
import ssl
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import Pyro4
import Pyro4.socketutil
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.errors import RunError
from pipeline.files import publish_text, read_fresh

AUTHORITY = "authority"
# Longer than any run; clocks of cluster nodes differ, so validity begins a day early.
VALIDITY = datetime.timedelta(days=3650)
SKEW = datetime.timedelta(days=1)
# Pyro4 reads a whole message into memory before anything looks at it.
MAX_MESSAGE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Credentials:
    """The files that a process proves itself with.

    Attributes:
        authority: certificate of the run's authority.
        certificate: the process's own, for its own address.
        key: the private key of `certificate`.
    """

    authority: Path
    certificate: Path
    key: Path


# The authority's name where the run's label was not part of it.
UNLABELLED = "Tandem run authority"


def ensure_authority(folder: Path, run_label: str) -> None:
    """Make the run's authority unless it is there. Only the holder of the run's lease calls this.

    The authority's name holds the run's label: one that came with a copy of another run's files is replaced, so that
    no worker of either run passes for one of the other.

    Raises:
        RunError: the folder can be read by others.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_private(folder)
    common_name = f"Tandem run {run_label[-50:]}"  # of at most 64 characters; a label ends with what is unique
    if (folder / f"{AUTHORITY}.pem").exists() and (folder / f"{AUTHORITY}.key").exists():
        if _authority_name(folder) in (common_name, UNLABELLED, ""):
            return
        for path in (*folder.glob("*.pem"), *folder.glob("*.key")):
            path.unlink(missing_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write(folder, AUTHORITY, builder.sign(key, hashes.SHA256()), key)


def issue_certificate(folder: Path, name: str, addresses: Iterable[str], wait_s: float = 10.0) -> Credentials:
    """A new certificate, signed by the run's authority, for a process that listens on `addresses`.

    Args:
        folder: the run's `tls` folder.
        name: fit for a file name.
        addresses: host names and IP addresses by which other processes reach this one.
        wait_s: how long the authority's files may take to become visible on this host.

    Raises:
        RunError: the authority is missing or damaged, or the folder can be read by others.
    """
    authority, authority_key = _read_authority(folder, wait_s)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, authority.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general_name(a) for a in addresses]), critical=False)
        # Python 3.13 verifies strictly: basic constraints, key usage and both key identifiers must be there.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _write(folder, name, certificate, key)


def prove_oneself(folder: Path, name: str, addresses: Iterable[str]) -> None:
    """`issue_certificate` for this process, and `use_tls` with it; its files go once they are loaded.

    A long run has hundreds of thousands of worker processes, and none of them needs its files again.
    """
    credentials = issue_certificate(folder, name, addresses)
    try:
        use_tls(credentials)
    finally:
        for path in (credentials.certificate, credentials.key):
            with contextlib.suppress(OSError):  # what is loaded serves all the same
                path.unlink(missing_ok=True)


def use_tls(credentials: Credentials) -> None:
    """Let every Pyro4 connection of this process, served or made, be mutual TLS with these credentials.

    Pyro4's settings are global to the process; what its environment variables say is set aside.
    """
    config = Pyro4.config
    config.reset(useenvironment=False)
    config.SSL = True
    config.SSL_REQUIRECLIENTCERT = True
    config.SSL_CACERTS = str(credentials.authority)
    config.SSL_SERVERCERT = config.SSL_CLIENTCERT = str(credentials.certificate)
    config.SSL_SERVERKEY = config.SSL_CLIENTKEY = str(credentials.key)
    # Without it a small reply waits 40 ms for the delayed acknowledgement of the one before.
    config.SOCK_NODELAY = True
    config.MAX_MESSAGE_SIZE = MAX_MESSAGE_BYTES
    # serpent is what stock hpbandster speaks, json what Tandem's own calls use; marshal is not safe with bad input.
    config.SERIALIZERS_ACCEPTED = {"serpent", "json"}
    server = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    server.verify_mode = ssl.CERT_REQUIRED
    server.num_tickets = 0  # for sessions that nobody resumes: a fifth of a handshake
    client = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    # Pyro4 caches its contexts here on first use, for good: put ours there, so that they are these credentials' and
    # no weaker than we say.
    setattr(Pyro4.socketutil, "__ssl_server_context", server)
    setattr(Pyro4.socketutil, "__ssl_client_context", client)


def stock_worker_environment(credentials: Credentials) -> dict[str, str]:
    """Pyro4's own environment variables with which a stock hpbandster worker joins a run."""
    return {
        "PYRO_SSL": "1",
        "PYRO_SSL_REQUIRECLIENTCERT": "1",
        "PYRO_SSL_CACERTS": str(credentials.authority),
        "PYRO_SSL_SERVERCERT": str(credentials.certificate),
        "PYRO_SSL_SERVERKEY": str(credentials.key),
        "PYRO_SSL_CLIENTCERT": str(credentials.certificate),
        "PYRO_SSL_CLIENTKEY": str(credentials.key),
        "PYRO_SOCK_NODELAY": "1",
    }


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(credentials.authority)
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def _read_authority(folder: Path, wait_s: float) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_path, key_path = folder / f"{AUTHORITY}.pem", folder / f"{AUTHORITY}.key"
    try:
        certificate = read_fresh(certificate_path, lambda p: x509.load_pem_x509_certificate(p.read_bytes()), wait_s)
        key = read_fresh(key_path, lambda p: serialization.load_pem_private_key(p.read_bytes(), None), wait_s)
        public_key = certificate.public_key()
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RunError(
            f"Cannot read the run's certificate authority in {folder} ({error}). If the folder is damaged, stop the "
            f"run, delete {folder} and resume the run: a new authority is made."
        ) from None
    _check_private(folder)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != public_key:
        raise RunError(
            f"{key_path} is not the key of {certificate_path}: files of two authorities are mixed. Stop the run, "
            f"delete {folder} and resume the run: a new authority is made."
        )
    return certificate, key


def _authority_name(folder: Path) -> str:
    """The common name of the authority that is there; "": it is damaged, which whoever uses it says."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
    except (OSError, ValueError):
        return ""
    return "".join(str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))


def _check_private(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise RunError(
            f"{folder} holds the run's keys, and others can read it (mode {stat.S_IMODE(status.st_mode):04o}, owner "
            f"{status.st_uid}). It must be yours alone: `chmod 700 {shlex.quote(str(folder))}`, or put the "
            f"run on a file system with permissions."
        )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credentials:
    paths = Credentials(folder / f"{AUTHORITY}.pem", folder / f"{name}.pem", folder / f"{name}.key")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    publish_text(paths.key, private.decode(), mode=0o600)
    publish_text(paths.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode(), mode=0o600)
    return paths
