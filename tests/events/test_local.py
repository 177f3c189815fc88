"""The SQS server of `fourlane dev`: when it is started, how it is found, that it leaves no orphan."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fourlane.commands.dev import local_sqs
from fourlane.config import load_settings
from fourlane.errors import EmbeddedServerError
from fourlane.events import local
from fourlane.events.aws import is_configured
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
        assert f"sqs: moto's server at {found}, in memory" in capsys.readouterr().err
        with local_sqs(settings):
            assert f"sqs: {found}, of another" in capsys.readouterr().err
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
        assert local.find(tmp_path) == endpoint
        owner.kill()
    eventually(lambda: local.find(tmp_path) is None)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"port": "x"}', '{"port": 1}'])
def test_a_stale_file_finds_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "sqs.json").write_text(text)
    assert local.find(tmp_path) is None


def test_one_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(local, "_free_port", lambda: taken.getsockname()[1])
        with pytest.raises(EmbeddedServerError, match=r"ended at its start: .*port"):
            local.LocalSqs()
