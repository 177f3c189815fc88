"""The SQS server of `fourlane dev`: when it is started, how it is found, that it leaves no orphan."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.sqs.models import SQSBackend

from fourlane.commands.dev import local_sqs
from fourlane.config import load_settings
from fourlane.errors import EmbeddedServerError
from fourlane.events import local
from fourlane.events.aws import is_configured
from fourlane.events.local import LocalSqs
from fourlane.events.local_server import one_at_a_time, refusal
from tests.servers import eventually


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, aws_environment: None) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_aws")
def test_what_dev_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(data_dir=tmp_path)
    with local_sqs(settings):
        found = eventually(lambda: local.find(tmp_path), 20)
        assert f"sqs: moto's server at {found.endpoint}, in memory" in capsys.readouterr().err
        with local_sqs(settings):
            assert f"sqs: {found.endpoint}, of another" in capsys.readouterr().err
    assert local.find(tmp_path) is None

    monkeypatch.setattr(local, "is_installed", lambda: False)
    with local_sqs(settings):
        assert capsys.readouterr().err == ("sqs: none; for event streams here: pip install 'fourlane[sqs-local]'\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with local_sqs(settings):
        assert capsys.readouterr().err == "sqs: http://127.0.0.1:1\n"


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL_SQS"])
@pytest.mark.usefixtures("no_aws")
def test_any_word_of_aws_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_configured()
    monkeypatch.setenv(name, "x")
    assert is_configured()


def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from fourlane.events.local import LocalSqs\n"
        f"server = LocalSqs(pathlib.Path({str(tmp_path)!r})); print(server.endpoint, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        endpoint = owner.stdout.readline().strip()
        found = local.find(tmp_path)
        assert found is not None
        assert found.endpoint == endpoint
        owner.kill()
    eventually(lambda: local.find(tmp_path) is None)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"port": "x"}', '{"port": 1}', '{"port": 1, "token": "t"}'])
def test_a_stale_file_finds_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "sqs.json").write_text(text)
    assert local.find(tmp_path) is None


def test_another_at_the_port_of_one_that_was_killed_is_not_trusted(tmp_path: Path) -> None:
    with LocalSqs() as another:
        (tmp_path / "sqs.json").write_text(json.dumps({"port": another.port, "token": "0" * 32}))
        assert local.find(tmp_path) is None


def test_its_token_is_for_this_user_alone(tmp_path: Path) -> None:
    with LocalSqs(tmp_path / "data", wait=False) as server:
        file = tmp_path / "data" / "sqs.json"
        assert server.token in file.read_text()
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert server.token not in Path(f"/proc/{server.pid}/cmdline").read_text()


HOST = {"HTTP_HOST": "127.0.0.1:9"}
SIGNED = "AWS4-HMAC-SHA256 Credential={}/20261128/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"HTTP_AUTHORIZATION": SIGNED.format("token", "sqs")}, ""),
        ({"HTTP_AUTHORIZATION": SIGNED.format("token", "s3"), "HTTP_HOST": "localhost:9"}, ""),
        ({"QUERY_STRING": "X-Amz-Credential=token%2F20261128%2Fus-east-1%2Fs3%2Faws4_request"}, ""),
        ({"PATH_INFO": "/moto-api/reset", "HTTP_AUTHORIZATION": "Bearer token"}, ""),
        ({"PATH_INFO": "/fourlane/nonce"}, ""),
        ({}, "the access key of this server is missing"),
        ({"HTTP_AUTHORIZATION": SIGNED.format("other", "sqs")}, "the access key of this server is missing"),
        ({"HTTP_AUTHORIZATION": SIGNED.format("tok\xe9n", "sqs")}, "the access key of this server is missing"),
        ({"HTTP_AUTHORIZATION": "Bearer token"}, "the access key of this server is missing"),
        ({"HTTP_AUTHORIZATION": SIGNED.format("token", "iam")}, "iam is not served here"),
        ({"PATH_INFO": "/moto-api/reset"}, "the token is missing"),
        ({"PATH_INFO": "/moto-api/reset", "HTTP_AUTHORIZATION": SIGNED.format("token", "sqs")}, "the token is missing"),
        # A page in a browser, by a request that needs no leave; a name that its owner lets lead here.
        ({"PATH_INFO": "/moto-api/reset", "HTTP_ORIGIN": "https://evil.example"}, "not for browsers"),
        ({"PATH_INFO": "/fourlane/nonce", "HTTP_SEC_FETCH_SITE": "cross-site"}, "not for browsers"),
        ({"PATH_INFO": "/fourlane/nonce", "HTTP_HOST": "evil.example:9"}, "no host of this server"),
    ],
)
def test_who_may_call_it(request_: dict[str, str], why: str) -> None:
    found = refusal({**HOST, **request_}, "token", 9)
    assert why in found
    assert bool(why) == bool(found)


def test_a_page_in_a_browser_empties_no_queue() -> None:
    with LocalSqs() as server:
        reset = f"{server.endpoint}/moto-api/reset"
        answer = httpx.post(reset, headers={"Origin": "https://evil.example"})
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (403, False)
        assert httpx.post(reset).status_code == 403
        assert httpx.post(reset, headers={"Authorization": f"Bearer {server.token}"}).status_code == 200


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_one_message_of_a_group_is_out_at_a_time_whoever_receives(hasty: None) -> None:
    class Backend(SQSBackend):
        """The one that serves."""

    one_at_a_time(Backend)
    backend = Backend("us-east-1", "123456789012")
    out: list[str] = []
    met: list[tuple[str, ...]] = []
    left = threading.Semaphore(0)

    def receive(name: str, number: int) -> None:
        while len(got) < number:
            for message in backend.receive_message(name, 1, 0, 60):
                out.append(message.id)
                time.sleep(0.0002)
                met.append(tuple(out))
                out.remove(message.id)
                got.append(message.body)
                backend.delete_message(name, message.receipt_handle)
        left.release()

    for queue in range(8):
        name, got = f"q{queue}.fifo", list[str]()
        backend.create_queue(name, {}, FifoQueue="true")
        for number in range(20):
            backend.send_message(name, str(number), {}, group_id="one", deduplication_id=str(number))
        for _ in range(3):
            threading.Thread(target=receive, args=(name, 20), daemon=True).start()
        assert all(left.acquire(timeout=20) for _ in range(3))
        assert got == [str(number) for number in range(20)]
    assert all(len(together) == 1 for together in met)


def test_one_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(local, "_free_port", lambda: taken.getsockname()[1])
        with pytest.raises(EmbeddedServerError, match=r"ended at its start: .*port"):
            LocalSqs()
