"""Mistakes of users, through the real command: one line that says what to do, and nothing was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourlane.events.aws import Aws
from fourlane.events.names import EventQueue
from tests.command import Command
from tests.command import command as command
from tests.events import fault_proxy as faults
from tests.events.fault_proxy import FaultProxy
from tests.events.test_consuming import in_sqs
from tests.servers import eventually

MODEL = """
import fourlane
from pydantic import BaseModel

class Signup(BaseModel):
    email: str

fourlane.events.declare("{event}", Signup)

@fourlane.on_event("{event}")
def on(event):
    print("handled", flush=True)
"""


@pytest.fixture
def told(command: Command) -> Any:
    """Runs ``fourlane events publish``; returns the one line that it says."""

    def publish(*args: str, code: int = 1, **env: str) -> str:
        done = command("events", "publish", *args, **env)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    return publish


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shop.user-signup", ["shop", "platform, audit, analytics", "notification"]),
        ("platform.User Signup", ["User Signup", "small letters"]),
        ("platform.user/signup", ["user/signup", "small letters"]),
        ("platform", ["CATEGORY.TYPE"]),
        ("platform." + "x" * 90, ["80"]),
    ],
)
def test_a_name_that_is_none(told: Any, name: str, words: list[str]) -> None:
    line = told(name, "{}")
    assert all(word in line for word in words), line


def test_a_payload_that_breaks_its_model(
    command: Command, told: Any, event: str, queue: EventQueue, aws: Aws, proxy: FaultProxy
) -> None:
    """At the publisher; and at the consumer, where it lies in the dead-letter queue with the reason."""
    module = command.module("signups", MODEL.format(event=event))
    line = told(event, '{"mail": "ada"}', "--module", module)
    assert f"event {event} breaks its model Signup: email: Field required" in line
    assert in_sqs(aws, queue) == 0
    assert command("events", "publish", event, '{"mail": "ada"}').returncode == 0  # by who does not know the model
    command.start("worker", module)
    eventually(lambda: in_sqs(aws, queue.dead_letters) == 1, 40)
    [dead] = json.loads(command("events", "dead", event, "--json").stdout)["events"]
    assert dead["reason"] == f"event {event} breaks its model Signup: email: Field required"


NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (NO_KEYS, "no AWS credentials were found; set AWS_ACCESS_KEY_ID"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "no region is set; set AWS_REGION"),
        ({"AWS_REGION": "us east"}, "is no region; set AWS_REGION"),
        ({"AWS_REGION": "eu-central-1", "FOURLANE_ENVIRONMENT": "staging"}, "check AWS_REGION"),
        ({"AWS_ENDPOINT_URL": "nowhere"}, "set AWS_ENDPOINT_URL to an address such as"),
    ],
    ids=["credentials", "region", "no region", "wrong region", "address"],
)
def test_a_place_that_is_not_right(told: Any, event: str, env: dict[str, str], words: str) -> None:
    assert words in told(event, "{}", **env)


def test_a_permission_that_is_missing(told: Any, event: str, queue: EventQueue, proxy: FaultProxy) -> None:
    proxy.next("SendMessageBatch", faults.refuse("AccessDenied", 403))
    line = told(event, "{}", AWS_ENDPOINT_URL=proxy.endpoint)
    assert "permission sqs:SendMessage is missing; `fourlane events provision --dry-run` prints the policy" in line
