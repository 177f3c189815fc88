"""TLS and Host use the name, whatever the address."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fourlane.providers.http import TargetRefused, TransportError, connect
from tests.providers.http.servers import (
    PUBLIC,
    Internet,
    ServerFactory,
    post,
    redirect_to,
)

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hook.example, signed by itself, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-subj",
            "/CN=hook.example",
            "-addext",
            "subjectAltName=DNS:hook.example",
        ],
        check=True,
        cwd=folder,
        capture_output=True,
    )
    pem = folder / "both.pem"
    pem.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return pem


@dataclass
class TlsServer:
    context: ssl.SSLContext
    names: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.sni_callback = self._note

    def _note(self, sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.names.append(name)


@pytest.fixture
def tls(certificate: Path) -> TlsServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return TlsServer(context)


def trust(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    monkeypatch.setattr(connect, "_tls_context", lambda: ssl.create_default_context(cafile=str(certificate)))


def test_tls_and_host_use_the_name_though_the_address_is_connected_to(
    serve: ServerFactory,
    internet: Internet,
    monkeypatch: pytest.MonkeyPatch,
    certificate: Path,
    tls: TlsServer,
) -> None:
    server = serve(tls=tls.context)
    trust(monkeypatch, certificate)
    internet.dns("hook.example", [PUBLIC])
    internet.routes[PUBLIC] = server.port

    assert post("https://hook.example/", allow_private=False).status == 200

    assert tls.names == ["hook.example"]
    assert server.requests[0].headers["host"] == "hook.example"


@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [
        ("hook.example", False, "TLS: self.signed certificate"),
        ("other.example", True, "TLS: Hostname mismatch"),
    ],
)
def test_a_certificate_that_does_not_fit_fails(
    serve: ServerFactory,
    internet: Internet,
    monkeypatch: pytest.MonkeyPatch,
    certificate: Path,
    tls: TlsServer,
    host: str,
    trusted: bool,
    why: str,
) -> None:
    server = serve(tls=tls.context)
    if trusted:
        trust(monkeypatch, certificate)
    internet.dns(host, [PUBLIC])
    internet.routes[PUBLIC] = server.port
    with pytest.raises(TransportError, match=why) as caught:
        post(f"https://{host}/", allow_private=False)
    assert caught.value.reason == "TLS"
    assert server.requests == []


def test_https_to_a_server_without_tls(serve: ServerFactory) -> None:
    server = serve(talk=lambda conn: conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(TransportError, match=r"^TLS"):
        post(server.url.replace("http:", "https:"))


def test_a_redirect_from_https_to_http_is_refused(
    serve: ServerFactory,
    internet: Internet,
    monkeypatch: pytest.MonkeyPatch,
    certificate: Path,
    tls: TlsServer,
) -> None:
    server = serve(redirect_to("http://hook.example/"), tls=tls.context)
    trust(monkeypatch, certificate)
    internet.dns("hook.example", [PUBLIC])
    internet.routes[PUBLIC] = server.port
    with pytest.raises(TargetRefused, match="from https to http"):
        post("https://hook.example/", allow_private=False)
