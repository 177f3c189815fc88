"""The public names: they are those that programs import, and none goes or comes by accident."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "fourlane": "__version__ Backoff Cancelled EnqueuedJob FourlaneError InvalidSchedule JobCancelled JobFailed Limit "
    "RateLimited RedisBroker Reject ResultNotKept ResultRefused ResultTimeout Snooze State Task Tier cron current_job "
    "events every on_event resume step task",
    "fourlane.config": "Settings load_settings",
    "fourlane.events": "Event Hooks Published Publisher apublish apublish_many current_event declare on_event publish "
    "publish_many",
    "fourlane.outbox": "enqueue enqueue_with_options",
    "fourlane.storage": "AUDIO DOCUMENTS IMAGES TEXTS Blob Storage Stored file_name reference suffix_of",
    "fourlane.tasks.ai": "MODELS AiConfig Budget Embedded Estimate Moderated NotAccepted Reply TextOptions "
    "ToolFunction analyze call configure embed estimate generate image moderate prices_source read_file speak spending "
    "summarize tool transcribe translate vectors",
    "fourlane.tasks.billing": "PROVIDERS InvalidPeriod RunTaken Summary period_of reconcile reconcile_period",
    "fourlane.tasks.notifications": "Channel File InvalidNotification Link Notification Sent alert email emails notify "
    "notify_many pagerduty push slack sms",
    "fourlane.tasks.webhooks": "Delivered DeliveryFailed InvalidEndpoint add_endpoint change_endpoint deliver "
    "send_event",
    "fourlane.webhooks": "Answer Event Receiver Refused Senders Unverifiable Verified forward_webhook on_webhook "
    "verify",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    found = importlib.import_module(module)
    assert {*found.__all__} == {*PUBLIC[module].split()}
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


def python_of(page: Path) -> Iterator[ast.AST]:
    for block in re.findall(r"^( *)```python\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from ast.walk(ast.parse(textwrap.dedent(block[1])))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_imports_what_is_there(page: Path) -> None:
    for node in python_of(page):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fourlane"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("fourlane"):
                    importlib.import_module(alias.name)


def test_pages_have_imports() -> None:
    assert sum(isinstance(node, ast.ImportFrom) for page in PAGES for node in python_of(page)) > 10
