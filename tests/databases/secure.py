"""Databases that speak TLS with everybody, and their certificates."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from tests.databases.servers import HOST, MariaDb, Postgres

if TYPE_CHECKING:
    from pathlib import Path


def certificate(folder: Path, name: str = f"IP:{HOST}", *, expired: bool = False) -> None:
    """Make a certificate for 127.0.0.1 that is its own authority."""
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mqueue test"]
    argv += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    argv += ["-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    if expired:
        for file, text in (("database", ""), ("serial", "01"), ("ca.cnf", AUTHORITY.format(folder, name))):
            (folder / file).write_text(text, "ascii")
        argv = ["openssl", "ca", "-batch", "-config", str(folder / "ca.cnf"), "-ss_cert", str(folder / "cert.pem")]
        argv += ["-keyfile", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-notext"]
        argv += ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)


AUTHORITY = """
[ca]
default_ca = own
[own]
new_certs_dir = {0}
certificate = {0}/cert.pem
database = {0}/database
serial = {0}/serial
default_md = sha256
policy = any
x509_extensions = same
[any]
commonName = supplied
[same]
subjectAltName = {1}
basicConstraints = critical, CA:TRUE
"""


class Secure:
    """A database that speaks TLS with everybody and plainly with nobody who comes over TCP."""

    home: Path
    account: dict[str, Any]

    def prepare_certificate(self) -> None:
        certificate(self.home)
        for name in ("key.pem", "cert.pem"):
            if self.account:
                shutil.chown(self.home / name, self.account["user"], self.account["group"])
        (self.home / "key.pem").chmod(0o600)


class SecureMariaDb(MariaDb, Secure):
    """MariaDB with a certificate."""

    def prepare(self) -> None:
        super().prepare()
        self.prepare_certificate()

    def argv(self) -> list[str]:
        files = [f"--ssl-cert={self.home}/cert.pem", f"--ssl-key={self.home}/key.pem"]
        return [*super().argv(), *files, "--require-secure-transport=ON"]


class SecurePostgres(Postgres, Secure):
    """PostgreSQL with a certificate."""

    def prepare(self) -> None:
        super().prepare()
        self.prepare_certificate()
        rules = "local all all trust\nhostssl all all all scram-sha-256\n"
        (self.home / "data" / "pg_hba.conf").write_text(rules, "ascii")

    def argv(self) -> list[str]:
        files = ["-c", f"ssl_cert_file={self.home}/cert.pem", "-c", f"ssl_key_file={self.home}/key.pem"]
        return [*super().argv(), "-c", "ssl=on", *files]


SecureServer = SecureMariaDb | SecurePostgres
