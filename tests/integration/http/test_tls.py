"""TLS towards clients: a certificate from the configuration, replaced while the router runs."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pointsman.contracts.names import Env
from support import forking
from support.gateway import FAST, SECRET, Gateway, free_port, wait_for

NOW = datetime.datetime.now(datetime.UTC)


def write_certificate(folder: Path, name: str, *, passphrase: bytes | None = None) -> int:
    """A new self-signed certificate for 127.0.0.1 and its key in `folder`, swapped in whole; its serial number."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    serial = x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial, NOW, NOW + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    texts = {
        "tls.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "tls.key": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
    }
    for file, text in texts.items():
        (folder / f"{file}.new").write_bytes(text)
        os.replace(folder / f"{file}.new", folder / file)
    return serial


SLOW = {**FAST, "engine_args": {"simulated": {"decode_speed": 40, "answer_tokens": 400, "keep_requests": 200}}}


class TlsGateway(Gateway):
    """A gateway with one pool, reached by https only."""

    def __init__(self, folder: Path, **router: object) -> None:
        self.serial = write_certificate(folder, "first")
        self.certificate, self.private_key = folder / "tls.crt", folder / "tls.key"
        files = {"certificate": str(self.certificate), "private_key": str(self.private_key)}
        super().__init__(folder, pools=[SLOW], router={"tls": files, **router})
        self.url = f"https://127.0.0.1:{self.port}"

    def startupz(self) -> int:
        try:
            return httpx.get(f"{self.url}/startupz", timeout=5, verify=self.trust()).status_code
        except httpx.TransportError:
            return 0

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def serial_now(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        text = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=60)
        return x509.load_pem_x509_certificate(text.encode()).serial_number


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsGateway]:
    with TlsGateway(tmp_path_factory.mktemp("gw"), header_timeout=2) as gateway:
        yield gateway


def test_the_openai_sdk_is_answered_over_tls(gateway: TlsGateway) -> None:
    http = httpx.Client(verify=gateway.trust())
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, http_client=http) as client:
        answer = client.chat.completions.create(
            model="smollm2:no_think", max_tokens=4, messages=[{"role": "user", "content": "hello"}]
        )
        assert answer.choices[0].message.content
        stream = client.chat.completions.create(
            model="smollm2:no_think", max_tokens=4, messages=[{"role": "user", "content": "hello"}], stream=True
        )
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"


def test_a_body_of_a_megabyte_passes(gateway: TlsGateway) -> None:
    body = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": "a" * 1_000_000}]}
    with httpx.Client(base_url=gateway.url, verify=gateway.trust()) as client:
        answer = client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {gateway.key}"})
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_plain_http_is_turned_away(gateway: TlsGateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as plain:
        plain.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := plain.recv(1000):
                received += piece
    assert b"HTTP" not in received


@pytest.mark.filterwarnings("ignore:.*TLSv1:DeprecationWarning")
def test_versions_before_1_2_are_turned_away(gateway: TlsGateway) -> None:
    old = gateway.trust()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(raw, server_hostname="127.0.0.1")
    assert "Traceback" not in gateway.router.output()


def test_a_handshake_that_never_ends_is_given_up(gateway: TlsGateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as silent:
        try:
            assert silent.recv(1) == b""
        except ConnectionResetError:
            return


def test_a_client_that_leaves_is_noticed(gateway: TlsGateway) -> None:
    (engine,) = gateway.engines["fast"]
    body = b'{"model":"smollm2:no_think","messages":[{"role":"user","content":"hello"}]}'
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
    wire = gateway.trust().wrap_socket(raw, server_hostname="127.0.0.1")
    before = len(engine.received())
    wire.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (gateway.key.encode(), len(body), body)
    )
    wait_for(lambda: len(engine.received()) > before, "the request to arrive", gateway.router)
    assert engine.received()[-1]["outcome"] == "running"
    wire.close()
    wait_for(lambda: engine.received()[-1]["outcome"] == "aborted", "its end", gateway.router)


def test_a_new_certificate_counts_for_new_connections(gateway: TlsGateway) -> None:
    with httpx.Client(base_url=gateway.url, verify=gateway.trust()) as old:
        assert old.get("/readyz").status_code == 200
        assert gateway.serial_now() == gateway.serial
        serial = write_certificate(gateway.folder, "second")
        wait_for(lambda: gateway.serial_now() == serial, "the new certificate", gateway.router)
        assert old.get("/readyz").status_code == 200  # on the connection that it has
    assert httpx.get(f"{gateway.url}/readyz", verify=gateway.trust()).status_code == 200

    gateway.private_key.write_text("garbage")
    wait_for(lambda: "stays as it was" in gateway.router.output(), "the refusal", gateway.router)
    assert gateway.serial_now() == serial
    gateway.certificate.unlink()
    wait_for(lambda: gateway.router.output().count("stays as it was") == 2, "the refusal")
    assert gateway.serial_now() == serial
    third = write_certificate(gateway.folder, "third")
    wait_for(lambda: gateway.serial_now() == third, "the third certificate", gateway.router)
    assert "PRIVATE KEY" not in gateway.logs()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("missing", "router.tls: {key} cannot be read (no such file or directory)."),
        ("other key", "router.tls: the key in {key} is not that of the certificate in {certificate}."),
        ("garbage", "router.tls: {certificate} and {key} must hold a certificate and its private key in PEM"),
        ("passphrase", "router.tls: {certificate} and {key} must hold a certificate and its private key in PEM"),
    ],
)
def test_files_that_cannot_be_used_are_told_at_the_start(
    tmp_path: Path, broken: str, said: str, workers: int
) -> None:
    write_certificate(tmp_path, "one", passphrase=b"secret" if broken == "passphrase" else None)
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    if broken == "missing":
        key.unlink()
    elif broken == "garbage":
        key.write_text("garbage")
    elif broken == "other key":
        shutil.copy(certificate, tmp_path / "kept")
        write_certificate(tmp_path, "two")
        shutil.copy(tmp_path / "kept", certificate)
    config = tmp_path / "config.yaml"
    files = {"certificate": str(certificate), "private_key": str(key)}
    config.write_text(yaml.safe_dump({"pools": [FAST], "router": {"tls": files}}))
    arguments = ["--config", config, "--redis-url", "redis://127.0.0.1:1", "--state-dir", tmp_path / "state"]
    arguments += ["--port", free_port(), "--workers", workers]
    done = forking.run(["router", *map(str, arguments)], env={**os.environ, Env.REPLICA_SECRET: SECRET}, timeout=60)
    assert done.returncode == 2
    assert said.format(certificate=certificate, key=key) in done.stderr
    assert "Traceback" not in done.stderr
