"""The guarded client against real servers on loopback, and against DNS, redirects and servers that lie."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourlane.providers import http
from fourlane.providers.http import Response, TargetRefused, TransportError, connect, pools
from fourlane.providers.http.addresses import address_fault, unwrapped
from fourlane.providers.http.target import checked_url, redirect

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PUBLIC = "93.184.216.34"


# --- A server of sockets ---------------------------------------------------------------------------


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers each request with `answer`, or gives each connection to `talk` for anything odder."""

    answer: Callable[[Request], bytes] = lambda request: OK
    talk: Callable[[socket.socket], None] | None = None
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def stop(self) -> None:
        self.stopping.set()
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(conn)
            thread = threading.Thread(target=self._serve, args=(conn,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, conn: socket.socket) -> None:
        with suppress(OSError), conn:
            if self.tls is not None:
                conn = self.tls.wrap_socket(conn, server_side=True)
                self._open.append(conn)
            if self.talk is not None:
                self.talk(conn)
                return
            while (request := read_request(conn)) is not None:
                self.requests.append(request)
                conn.sendall(self.answer(request))


def read_request(conn: socket.socket) -> Request | None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = conn.recv(65536)
        if not data:
            return None
        head += data
    head, _, body = head.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(header.lower().split(": ", 1) for header in lines)
    while len(body) < int(headers.get("content-length", "0")):
        body += conn.recv(65536)
    return Request(line, headers, body)


ServerFactory = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[ServerFactory]:
    servers: list[Server] = []

    def start(
        answer: Callable[[Request], bytes] = lambda request: OK,
        talk: Callable[[socket.socket], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Server:
        servers.append(Server(answer, talk, tls))
        return servers[-1]

    yield start
    http.close()
    for server in servers:
        server.stop()


def post(url: str, *, timeout_seconds: float = 10, allow_private: bool = True, **options: object) -> Response:
    arguments: dict[str, object] = {"body": b"{}", "headers": {}, **options}
    return http.post(url, timeout_seconds=timeout_seconds, allow_private=allow_private, **arguments)  # type: ignore[arg-type]


def redirect_to(location: str, status: int = 307) -> Callable[[Request], bytes]:
    return lambda request: f"HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


@dataclass
class Internet:
    """A world in which DNS says what a test wants, and public addresses lead to a server on loopback."""

    monkeypatch: pytest.MonkeyPatch
    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)
    dialed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        dial = connect._dial

        def lookup(host: str) -> list[str]:
            self.lookups.append(host)
            answers = self.answers[host]
            return answers.pop(0) if len(answers) > 1 else answers[0]

        def routed_dial(address: str, port: int, timeout_seconds: float) -> socket.socket:
            self.dialed.append(address)
            if address not in self.routes:
                raise ConnectionRefusedError
            return dial("127.0.0.1", self.routes[address], timeout_seconds)

        self.monkeypatch.setattr(connect, "_lookup", lookup)
        self.monkeypatch.setattr(connect, "_dial", routed_dial)

    def dns(self, host: str, *answers: list[str]) -> None:
        """Each look-up of the host takes the next answer; the last one stays."""
        self.answers[host] = list(answers)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    return Internet(monkeypatch)


# --- What is sent and returned ---------------------------------------------------------------------


def test_a_post_arrives_and_its_answer_returns(serve: ServerFactory) -> None:
    server = serve(lambda request: b"HTTP/1.1 202 Fine\r\nX-Note: hi\r\ncontent-length: 4\r\n\r\ndone")

    response = post(server.url + "?a=1#top", body=b"hello", headers={"X-Mine": "yes"})

    assert (response.status, response.body) == (202, b"done")
    assert response.headers["x-note"] == "hi"
    assert response.elapsed_ms > 0
    [request] = server.requests
    assert request.line == "POST /hook?a=1 HTTP/1.1"
    assert request.body == b"hello"
    assert request.headers["x-mine"] == "yes"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["accept-encoding"] == "identity"


def test_headers_that_frame_the_message_are_ours(serve: ServerFactory) -> None:
    server = serve()

    post(server.url, headers={"Host": "internal", "Content-Length": "9", "Transfer-Encoding": "chunked"})

    [request] = server.requests
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["content-length"] == "2"
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer s3cret\r\nx-injected: 1"},
        {"authorization": "Bearer s3cret\x00"},
        {"authorization": "Bearer s3cret €"},
        {"bad name s3cret": "x"},
    ],
)
def test_a_malformed_header_is_refused_without_showing_it(serve: ServerFactory, headers: dict[str, str]) -> None:
    server = serve()
    with pytest.raises(TargetRefused, match="header is malformed") as caught:
        post(server.url, headers=headers)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert server.requests == []


def test_a_small_body_leaves_the_connection_for_the_next_call(serve: ServerFactory) -> None:
    server = serve()
    for _ in range(3):
        post(server.url)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_that_the_server_closed_is_not_used_again(serve: ServerFactory) -> None:
    closed = threading.Event()

    def one_answer(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(OK)
        conn.shutdown(socket.SHUT_RDWR)
        closed.set()

    server = serve(talk=one_answer)
    for _ in range(2):
        assert post(server.url).status == 200
        assert closed.wait(5)
    assert server.connections == 2


def test_many_threads_share_the_client(serve: ServerFactory) -> None:
    server = serve()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.extend(post(server.url).status for _ in range(20))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 160
    assert server.connections <= 8


def test_a_forked_child_opens_connections_of_its_own(serve: ServerFactory) -> None:
    server = serve()
    script = """
        import os, sys
        from fourlane.providers import http
        from fourlane.providers.http import pools

        def post():
            return http.post(sys.argv[1], body=b"", headers={}, timeout_seconds=10, allow_private=True).status

        assert post() == 200
        pools._pools_lock.acquire()  # as if another thread were inside at the fork
        child = os.fork()
        if child == 0:
            os._exit(0 if post() == 200 else 1)
        pools._pools_lock.release()
        assert os.waitpid(child, 0)[1] == 0
        assert post() == 200
    """
    command = [sys.executable, "-c", textwrap.dedent(script), server.url]
    subprocess.run(command, check=True, timeout=30, cwd=Path(__file__).parents[2])
    assert (server.connections, len(server.requests)) == (2, 3)


def test_proxies_of_the_environment_are_not_used(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(), serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    post(server.url)
    assert (proxy.connections, server.connections) == (0, 1)


# --- URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://hook.example/", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("gopher://hook.example:6379/_FLUSHALL", "must begin with"),
        ("hook.example/path", "must begin with"),
        ("//hook.example/path", "must begin with"),
        ("", "must begin with"),
        ("http://user:password@hook.example/", "user name or password"),
        ("http://user@hook.example/", "user name or password"),
        ("http://hook.example@127.0.0.1/", "user name or password"),
        ("http://hook.example\\@127.0.0.1/", "user name or password"),
        ("http:///path", "host is malformed"),
        ("http://a..b/", "host is malformed"),
        ("http://.hook.example/", "host is malformed"),
        ("http://hook%2eexample/", "host is malformed"),
        ("http://hook.example /", "host is malformed"),
        ("http://" + "a" * 64 + ".example/", "host is malformed"),
        ("http://" + "abcdefgh." * 30 + "example/", "host is malformed"),
        ("http://[fe80::1%25eth0]/", "host is malformed"),
        ("http://hook.example:0/", "port 0"),
        ("http://hook.example:22/", "port 22"),
        ("http://hook.example:25/", "port 25"),
        ("http://hook.example:65536/", "port 65536"),
        ("http://hook.example:80:90/", "URL is malformed"),
        ("http://hook.example\r\nx: y/", "URL is malformed"),
        ("http://[::1/", "URL is malformed"),
        ("http://①②⑦.⓪.⓪.①/", "URL is malformed"),
        ("http://0177.0.0.1/", "URL is malformed"),
    ],
)
def test_a_bad_url_is_refused_before_dns_is_asked(internet: Internet, url: str, why: str) -> None:
    with pytest.raises(TargetRefused, match=why):
        post(url)
    assert internet.lookups == []


@given(st.text())
def test_no_text_is_a_url_that_breaks_the_check(text: str) -> None:
    for url in (text, "http://" + text):
        try:
            checked_url(url)
        except TargetRefused:
            pass


@given(st.text())
def test_no_location_breaks_the_check(location: str) -> None:
    base = checked_url("http://hook.example/a/b")
    try:
        redirect(base, 307, location)
    except TargetRefused:
        pass


# --- Addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "fault", "also_with_allow_private"),
    [
        ("93.184.216.34", None, False),
        ("2606:2800:220:1::1", None, False),
        ("127.0.0.1", "loopback", False),
        ("127.255.255.254", "loopback", False),
        ("::1", "loopback", False),
        ("10.0.0.1", "private", False),
        ("172.16.0.1", "private", False),
        ("172.31.255.255", "private", False),
        ("172.32.0.1", None, False),
        ("192.168.1.1", "private", False),
        ("fd12:3456::1", "private", False),
        ("100.64.0.1", "carrier", False),
        ("100.127.255.255", "carrier", False),
        ("100.128.0.1", None, False),
        ("198.18.0.1", "benchmarking", False),
        ("169.254.1.1", "link-local", True),
        ("fe80::1", "link-local", True),
        ("fe80::1%1", "link-local", True),
        ("0.0.0.0", "unspecified", True),
        ("0.1.2.3", "unspecified", True),
        ("::", "unspecified", True),
        ("224.0.0.1", "multicast", True),
        ("ff02::1", "multicast", True),
        ("240.0.0.1", "reserved", True),
        ("255.255.255.255", "reserved", True),
        ("192.0.2.1", "reserved", True),
        ("2001:db8::1", "reserved", True),
        ("fec0::1", "reserved", True),  # site-local, of old
        ("::7f00:1", "reserved", True),  # IPv4-compatible, of old
        # Metadata services, some of them outside of every private range.
        ("169.254.169.254", "link-local", True),
        ("100.100.100.200", "metadata", True),
        ("168.63.129.16", "metadata", True),
        ("192.0.0.192", "metadata", True),
        ("fd00:ec2::254", "metadata", True),
        ("fd20:ce::254", "metadata", True),
        # IPv4 in IPv6 clothes.
        ("::ffff:127.0.0.1", "loopback", False),
        ("::ffff:169.254.169.254", "link-local", True),
        ("::ffff:93.184.216.34", None, False),
        ("64:ff9b::7f00:1", "loopback", False),
        ("64:ff9b::a9fe:a9fe", "link-local", True),
        ("64:ff9b::5db8:d822", None, False),
        ("64:ff9b:1::7f00:1", "reserved", True),
        ("2002:7f00:1::", "6to4", True),
        ("2002:5db8:d822::", "6to4", True),
        ("2001:0:7f00:1::", "reserved", True),  # Teredo
    ],
)
def test_addresses(address: str, fault: str | None, also_with_allow_private: bool) -> None:
    parsed = ipaddress.ip_address(address)
    found = address_fault(parsed, allow_private=False)
    assert (found is None) if fault is None else (found is not None and fault in found)
    assert (address_fault(parsed, allow_private=True) is not None) == also_with_allow_private


_anything = st.ip_addresses()
_special_v6 = st.sampled_from(["::/96", "::ffff:0:0/96", "64:ff9b::/96", "2001::/16", "fc00::/6"]).flatmap(
    lambda network: st.ip_addresses(v=6, network=network)
)


@given(st.one_of(_anything, _special_v6))
def test_no_address_is_allowed_that_python_knows_to_be_special(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    inner = unwrapped(address)
    if not inner.is_global or inner.is_multicast:
        assert address_fault(address, allow_private=False) is not None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
    ],
)
def test_no_way_to_write_loopback_gets_through(serve: ServerFactory, host: str) -> None:
    server = serve()
    with pytest.raises(TargetRefused, match="loopback"):
        post(f"http://{host}:{server.port}/", allow_private=False)
    assert server.connections == 0


def test_a_connection_opened_with_allow_private_is_not_used_without(serve: ServerFactory) -> None:
    server = serve()
    post(server.url, allow_private=True)
    with pytest.raises(TargetRefused, match="loopback"):
        post(server.url, allow_private=False)
    assert len(server.requests) == 1


# --- DNS -------------------------------------------------------------------------------------------


def test_the_checked_address_is_connected_to_and_the_name_is_sent(serve: ServerFactory, internet: Internet) -> None:
    server = serve()
    internet.dns("hook.example", [PUBLIC])
    internet.routes[PUBLIC] = server.port

    assert post("http://Hook.Example:8080/", allow_private=False).status == 200

    assert internet.dialed == [PUBLIC]
    assert server.requests[0].headers["host"] == "hook.example:8080"


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::ffff:10.0.0.5"])
def test_one_inside_address_among_the_answers_is_enough_to_refuse(internet: Internet, inside: str) -> None:
    internet.dns("hook.example", [PUBLIC] * 9 + [inside])
    with pytest.raises(TargetRefused) as caught:
        post("http://hook.example/", allow_private=False)
    assert internet.dialed == []
    assert inside not in str(caught.value)  # or a tenant could read our DNS


def test_a_name_that_changes_its_mind_is_looked_up_once(serve: ServerFactory, internet: Internet) -> None:
    server = serve(lambda request: b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    internet.dns("rebind.example", [PUBLIC], ["127.0.0.1"])
    internet.routes = {PUBLIC: server.port, "127.0.0.1": server.port}

    assert post("http://rebind.example/", allow_private=False).status == 200
    with pytest.raises(TargetRefused, match="loopback"):
        post("http://rebind.example/", allow_private=False)

    assert internet.lookups == ["rebind.example"] * 2
    assert internet.dialed == [PUBLIC]


def test_the_next_address_is_tried_when_one_is_dead(serve: ServerFactory, internet: Internet) -> None:
    server = serve()
    internet.dns("hook.example", ["93.184.216.1", "93.184.216.1", PUBLIC])
    internet.routes[PUBLIC] = server.port
    assert post("http://hook.example/", allow_private=False).status == 200
    assert internet.dialed == ["93.184.216.1", PUBLIC]


def test_only_a_few_addresses_of_a_name_are_tried(internet: Internet) -> None:
    internet.dns("hook.example", [f"93.184.216.{n}" for n in range(1, 100)])
    with pytest.raises(TransportError, match=r"^connection refused$"):
        post("http://hook.example/", allow_private=False)
    assert len(internet.dialed) == 4


def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(connect, "_lookup", fail)
    with pytest.raises(TransportError, match=r"^DNS: cannot resolve hook\.example: Name or service") as caught:
        post("http://hook.example/")
    assert caught.value.reason == "DNS"


# --- Redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_keeps_method_and_body(serve: ServerFactory, status: int) -> None:
    def answer(request: Request) -> bytes:
        return OK if "/new" in request.line else redirect_to("/new?b=2", status)(request)

    server = serve(answer)
    assert post(server.url, body=b"hello", headers={"authorization": "mine"}).status == 200
    assert [request.line for request in server.requests] == [
        "POST /hook HTTP/1.1",
        "POST /new?b=2 HTTP/1.1",
    ]
    assert server.requests[1].body == b"hello"
    assert server.requests[1].headers["authorization"] == "mine"


def test_credentials_do_not_follow_to_another_origin(serve: ServerFactory) -> None:
    other = serve()
    server = serve(redirect_to(other.url))
    post(server.url, headers={"Authorization": "mine", "Cookie": "a=b", "webhook-id": "1"})
    assert server.requests[0].headers["authorization"] == "mine"
    assert other.requests[0].headers.keys() & {"authorization", "cookie", "webhook-id"} == {"webhook-id"}


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_a_redirect_that_would_become_a_get_is_returned(serve: ServerFactory, status: int) -> None:
    server = serve(redirect_to("/new", status))
    assert post(server.url).status == status
    assert len(server.requests) == 1


def test_a_redirect_beyond_the_limit_is_returned(serve: ServerFactory) -> None:
    server = serve(redirect_to("/hook"))
    response = post(server.url)
    assert (response.status, response.headers["location"]) == (307, "/hook")
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1:{port}/admin", "loopback"),
        ("http://localhost:{port}/admin", "loopback"),
        ("http://2130706433:{port}/admin", "loopback"),
        ("//[::ffff:127.0.0.1]:{port}/admin", "loopback"),
        ("http://inside.example/", "private"),
        ("http://169.254.169.254/latest/meta-data/", "link-local"),
        ("http://user:pass@hook.example/", "redirected: the URL must not carry"),
        ("file:///etc/passwd", "redirected: the URL must begin"),
        ("http://hook.example:25/", "redirected: port 25"),
        ("http://[", "malformed"),
    ],
)
def test_a_redirect_passes_the_same_gates(serve: ServerFactory, internet: Internet, location: str, why: str) -> None:
    inside = serve()
    server = serve(redirect_to(location.format(port=inside.port)))
    internet.dns("hook.example", [PUBLIC])
    internet.dns("inside.example", ["10.1.2.3"])
    internet.dns("localhost", ["127.0.0.1"])
    internet.dns("2130706433", ["127.0.0.1"])
    internet.routes = {PUBLIC: server.port, "127.0.0.1": inside.port, "10.1.2.3": inside.port}

    with pytest.raises(TargetRefused, match=why):
        post("http://hook.example/", allow_private=False)

    assert len(server.requests) == 1
    assert (inside.connections, internet.dialed) == (0, [PUBLIC])


def test_metadata_is_refused_even_where_private_networks_are_allowed(serve: ServerFactory) -> None:
    server = serve(redirect_to("http://169.254.169.254/latest/meta-data/"))
    with pytest.raises(TargetRefused, match="link-local"):
        post(server.url, allow_private=True)


# --- TLS -------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(pools, "_tls_context", lambda: ssl.create_default_context(cafile=str(certificate)))


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


# --- Time and size ---------------------------------------------------------------------------------


def drip(stopping: Callable[[], threading.Event], text: bytes) -> Callable[[socket.socket], None]:
    """Send `text`, then a byte every 20 ms for as long as anybody listens."""

    def talk(conn: socket.socket) -> None:
        conn.sendall(text)
        while not stopping().wait(0.02):
            conn.sendall(b"x")

    return talk


@pytest.mark.parametrize(
    "beginning",
    [
        b"",  # drips the status line
        b"HTTP/1.1 200 OK\r\nx-slow: ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["status", "header", "body", "body-without-length"],
)
def test_a_dripping_server_ends_at_the_deadline(serve: ServerFactory, beginning: bytes) -> None:
    server = serve(talk=drip(lambda: server.stopping, beginning))
    started = time.monotonic()
    with pytest.raises(TransportError) as caught:
        post(server.url, timeout_seconds=0.4)
    assert caught.value.reason == "timeout"
    assert 0.4 <= time.monotonic() - started < 2


def test_a_silent_tls_handshake_ends_at_the_deadline(serve: ServerFactory) -> None:
    stopping = threading.Event()

    def keep_silent(conn: socket.socket) -> None:
        stopping.wait(30)

    server = serve(talk=keep_silent)
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"^timeout: in the TLS handshake"):
        post(server.url.replace("http:", "https:"), timeout_seconds=0.2)
    assert time.monotonic() - started < 2
    stopping.set()


def test_a_server_that_reads_too_slowly_ends_at_the_deadline(serve: ServerFactory) -> None:
    def sip(conn: socket.socket) -> None:
        while not server.stopping.wait(0.02):
            conn.recv(64 * 1024)

    server = serve(talk=sip)
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"^timeout"):
        post(server.url, body=bytes(64_000_000), timeout_seconds=0.4)
    assert time.monotonic() - started < 2


def test_a_slow_name_server_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def stall(host: str) -> list[str]:
        released.wait(30)
        return [PUBLIC]

    monkeypatch.setattr(connect, "_lookup", stall)
    started = time.monotonic()
    try:
        with pytest.raises(TransportError, match=r"^timeout: resolving hook\.example"):
            post("http://hook.example/", timeout_seconds=0.2)
    finally:
        released.set()
    assert time.monotonic() - started < 2


def test_redirects_share_one_deadline(serve: ServerFactory) -> None:
    def late(request: Request) -> bytes:
        server.stopping.wait(0.2)
        return redirect_to("/hook")(request)

    server = serve(late)
    with pytest.raises(TransportError, match=r"^timeout"):
        post(server.url, timeout_seconds=0.5, max_redirects=100)
    assert len(server.requests) <= 3


def test_an_endless_body_is_cut_and_the_connection_closed(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_up = threading.Event()

    def pour(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        try:
            while not server.stopping.is_set():
                conn.sendall(b"x" * 65536)
        except OSError:
            hung_up.set()

    server = serve(talk=pour)
    read_bytes = 0
    read = connect.Stream.read

    def counting_read(self: connect.Stream, max_bytes: int, timeout: float | None = None) -> bytes:
        nonlocal read_bytes
        data = read(self, max_bytes, timeout)
        read_bytes += len(data)
        return data

    monkeypatch.setattr(connect.Stream, "read", counting_read)

    response = post(server.url, keep_body_bytes=1000)

    assert (response.status, response.body) == (200, b"x" * 1000)
    assert read_bytes < 200_000
    assert hung_up.wait(5)


@pytest.mark.parametrize("size", [0, 2047, 2048, 2049])
def test_the_body_is_cut_where_it_was_said(serve: ServerFactory, size: int) -> None:
    answer = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode() + b"x" * size
    server = serve(lambda request: answer)
    assert len(post(server.url).body) == min(size, 2048)


def test_a_compressed_body_is_left_compressed(serve: ServerFactory) -> None:
    server = serve(lambda request: OK.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))
    assert post(server.url).body == b"ok"


# --- Other failures --------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match=r"^connection refused$"):
        post(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "protocol"),  # hangs up without a word
        (b"SSH-2.0-OpenSSH_9.6" + b"x" * 500 + b"\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, "protocol"),
    ],
    ids=["nothing", "ssh", "half", "upgrade", "endless-headers"],
)
def test_what_is_no_http_answer(serve: ServerFactory, answer: bytes, reason: str) -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(answer)
        conn.shutdown(socket.SHUT_WR)
        conn.recv(1)

    server = serve(talk=talk)
    with pytest.raises(TransportError) as caught:
        post(server.url)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 200


def test_a_server_that_answers_early_and_hangs_up_is_still_heard(serve: ServerFactory) -> None:
    def early(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        conn.close()  # with most of the request unread, so that sending fails

    server = serve(talk=early)
    assert post(server.url, body=bytes(8_000_000)).status == 413


def test_importing_opens_nothing() -> None:
    script = "from fourlane.providers.http import pools; assert pools._pools == {}"
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ, cwd=Path(__file__).parents[2])
