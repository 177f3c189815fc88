"""AI calls with the providers' own SDKs over HTTP, against a stand-in with faults; on real workers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

import fourlane
from examples.ai.provider import Fault, Provider
from examples.ai.script import Script
from fourlane import State
from fourlane.db.engine import Database, open_database, sqlite_url
from fourlane.db.models import AiOperationLog, Base, Organization
from fourlane.errors import InvalidArguments, ProviderDown, ProviderLimited, Reject
from fourlane.providers.ai import CutStream, aclose, read_error
from fourlane.providers.ai.accounts import _clients as clients
from fourlane.providers.signals import Signal
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Budgets
from fourlane.tasks import ai
from fourlane.tasks.ai.money.spent import month_now
from tests.servers import eventually
from tests.worker.conftest import RunWorker

pytestmark = [
    # Of the SDKs: Anthropic says which models it will retire.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

T = TypeVar("T")
KEYS = dict.fromkeys(("openai", "anthropic", "google", "perplexity", "openrouter"), "sk-test")
ALL = ["gpt-4o", "claude-sonnet-4.5", "claude-haiku-4.5", "gemini-1.5-pro", "sonar", "openrouter/openai/gpt-4o"]


def run(calls: Coroutine[Any, Any, T]) -> T:
    async def and_close() -> T:
        try:
            return await calls
        finally:
            await aclose()

    return asyncio.run(and_close())


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(sqlite_url(tmp_path / "ai.db"))
    Base.metadata.create_all(opened.engine)
    yield opened
    opened.close()


@pytest.fixture
def configured(provider: Provider, database: Database) -> Iterator[Any]:
    def set_up(**options: Any) -> None:
        given = {"api_keys": KEYS, "base_urls": provider.base_urls, "database": database} | options
        ai.configure(ai.AiConfig(**given))

    set_up()
    yield set_up
    ai.configure(None)


@pytest.fixture
def on_broker(broker: RedisBroker) -> Iterator[RedisBroker]:
    """The platform's tasks on this test's broker."""
    before = ai.generate.broker
    tasks = [ai.generate, ai.translate, ai.summarize, ai.analyze]
    for task in tasks:
        task.broker = broker
        broker.declare_actor(task)
    yield broker
    for task in tasks:
        task.broker = before


def rows(database: Database) -> list[AiOperationLog]:
    with database.session() as session:
        return list(session.scalars(select(AiOperationLog)))


@pytest.mark.parametrize("model", ALL)
def test_every_provider_answers_streams_and_is_booked(
    configured: Any,
    on_broker: RedisBroker,
    run_worker: RunWorker,
    database: Database,
    model: str,
) -> None:
    run_worker(on_broker, "ai")
    job = ai.generate.send("Hello out there", model=model, system="Be kind.", tenant="acme")
    reply = job.result(20)
    assert reply["text"] == "You said: Hello out there "
    assert reply["input_tokens"] > 0
    assert reply["output_tokens"] == 5
    assert reply["cost_known"]
    assert reply["cost_usd"] > 0
    assert "".join(piece.text for piece in job.stream(timeout=5)) == reply["text"]
    [row] = rows(database)
    assert (row.status, row.operation, row.job_id) == ("ok", "generate", job.id)
    assert row.cost_micro_usd * 1_000 == round(reply["cost_usd"] * 1e9)
    assert (row.tenant, row.task, row.outcome) == ("acme", "fourlane.ai.generate", "ok")
    budgets = Budgets(on_broker.store)
    for tenant in ("acme", ""):  # and all
        account = budgets.look(tenant, month_now())
        nano = row.cost_micro_usd * 1_000
        assert (account.spent, account.calls, account.unpriced) == (nano, 1, 0)
        names = ("tenant:acme", f"model:{reply['model']}", "task:fourlane.ai.generate")
        assert account.of == dict.fromkeys(names, nano)
    assert list(budgets.reservations()) == []


FAULTS = [
    (Fault("status", 500), 2),
    (Fault("status", 503, (("retry-after", "0.1"),)), 2),
    (Fault("status", 429, (("retry-after", "0.2"),)), 2),
    (Fault("cut"), 2),
    (Fault("malformed"), 2),
    (Fault("hang"), 2),
]


@pytest.mark.parametrize(("fault", "requests"), FAULTS, ids=lambda f: f.kind if isinstance(f, Fault) else str(f))
@pytest.mark.parametrize("model", ["gpt-4o", "claude-haiku-4.5", "gemini-2.5-flash"])
def test_what_passes_is_tried_again_inside_the_call(
    configured: Any, on_broker: RedisBroker, provider: Provider, model: str, fault: Fault, requests: int
) -> None:
    configured(limits={name: {"timeout_seconds": 1.0} for name in ("openai", "anthropic", "google")})
    provider.faults.append(fault)
    reply = run(ai.call("generate", "hi", model=model))
    assert reply["text"] == "You said: hi "
    assert len(provider.requests) == requests


@pytest.mark.parametrize("model", ["gpt-4o", "claude-haiku-4.5", "gemini-2.5-flash"])
def test_what_cannot_pass_is_dead_at_once_with_the_reason_and_a_row(
    configured: Any,
    on_broker: RedisBroker,
    run_worker: RunWorker,
    provider: Provider,
    database: Database,
    model: str,
) -> None:
    run_worker(on_broker, "ai")
    provider.faults += [Fault("status", 401), Fault("refuse")]
    blocked = "refused the content" if model.startswith("claude") else "had the content blocked"
    for words in ("planned 401", blocked):
        job = ai.generate.send("hi", model=model)
        eventually(lambda job=job: job.status() is State.DEAD)  # type: ignore[misc]
        assert words in job.info().detail
        assert job.info().attempts == 1
    assert [row.status for row in rows(database)] == ["error", "error"]
    assert len(provider.requests) == 2


def test_a_long_silence_postpones_without_an_attempt_and_a_fallback_goes_on(
    configured: Any,
    on_broker: RedisBroker,
    run_worker: RunWorker,
    provider: Provider,
) -> None:
    provider.faults.append(Fault("status", 429, (("retry-after", "60"),)))
    run_worker(on_broker, "ai")
    job = ai.generate.send("hi")
    eventually(lambda: job.status() is State.DELAYED)
    assert job.info().attempts == 0
    configured(fallbacks={"gpt-6-luna": ["claude-haiku-4.5"]})
    assert ai.generate.send("hi").result(20)["model"] == "anthropic/claude-haiku-4-5"
    assert len(provider.requests) == 2  # OpenAI was left in peace


@pytest.mark.parametrize("model", ["gpt-6-luna", "sonar", "claude-haiku-4.5", "gemini-2.5-flash"])
def test_a_stream_is_ended_by_silence_and_not_by_its_length(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, model: str
) -> None:
    brief = {"timeout_seconds": 1.0}
    configured(limits=dict.fromkeys(KEYS, brief))
    run_worker(on_broker, "ai")
    provider.scripts.append(Script(pieces=("word ",) * 10, pause_seconds=0.2))  # two seconds in all
    assert ai.generate.send("hi", model=model).result(20)["text"] == "word " * 10
    assert len(provider.requests) == 1
    configured(limits=dict.fromkeys(KEYS, brief | {"total_seconds": 0.7}), fallbacks={model: ["gpt-4o"]})
    provider.scripts += [Script(pieces=("word ",) * 10, pause_seconds=0.2)] * 4
    assert ai.generate.send("hi", model=model).result(20)["model"] == "openai/gpt-4o"


@pytest.mark.parametrize(
    ("model", "headers"),
    [
        ("gpt-4o", {"limit-requests": "10", "remaining-requests": "0", "reset-requests": "10m"}),
        ("claude-haiku-4.5", {"requests-limit": "1", "requests-remaining": "0", "requests-reset": "30"}),
    ],
)
def test_a_good_answer_may_say_that_nothing_is_left(
    configured: Any, on_broker: RedisBroker, provider: Provider, model: str, headers: dict[str, str]
) -> None:
    prefix = "x-ratelimit-" if model == "gpt-4o" else "anthropic-ratelimit-"
    provider.faults.append(Fault("headers", headers=tuple((prefix + name, value) for name, value in headers.items())))

    async def twice() -> None:
        assert (await ai.call("generate", "hi", model=model))["text"]
        with pytest.raises(ProviderLimited):
            await ai.call("generate", "hi", model=model)

    run(twice())
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("details", "silence_ms"),
    [
        ({"error": {"details": [{"@type": "t/Help"}, {"@type": "t/RetryInfo", "retryDelay": "17.5s"}]}}, 17_500),
        ({"error": {"details": [{"retryDelay": "soon"}]}}, -1),
        ({"error": {"details": "x"}}, -1),
        ({"error": "x"}, -1),
        ([], -1),
    ],
)
def test_google_says_in_the_body_when_to_come_again(details: Any, silence_ms: int) -> None:
    assert read_error(google_error(429, details)) == Signal("limited", again=True, silence_ms=silence_ms)


def google_error(status: int, body: Any) -> Exception:
    from google.genai import errors

    try:
        return errors.ClientError(status, body)
    except AttributeError:  # of a body that is no object
        error = errors.ClientError(status, {})
        error.details = body
        return error


def test_a_name_that_no_header_can_carry(configured: Any, on_broker: RedisBroker, run_worker: RunWorker) -> None:
    @fourlane.task(result_ttl_ms=10_000)
    async def report() -> str:
        return (await ai.call("generate", "hi", name="résumé"))["text"]

    run_worker(on_broker)
    assert report.send().result(20) == "You said: hi "


def test_one_loop_after_the_other(configured: Any, on_broker: RedisBroker) -> None:
    """A connection that was kept open in a loop that is gone is not used in the next one, whatever its id."""
    for _ in range(5):
        assert asyncio.run(ai.call("image", "a fox", model="openai/gpt-image-2"))["files"]
    assert len(clients) <= 1


def test_what_a_broken_answer_cost_is_counted(
    configured: Any, on_broker: RedisBroker, provider: Provider, database: Database
) -> None:
    provider.faults += [Fault("cut")] * 4
    with pytest.raises(CutStream):
        run(ai.call("generate", "hi " * 100, model="claude-haiku-4.5", tenant="acme"))
    [row] = rows(database)
    assert (row.status, row.outcome, row.input_tokens) == ("error", "error", 4 * 76)  # of each try
    assert row.cost_micro_usd >= 4 * 76
    assert Budgets(on_broker.store).look("acme", month_now()).spent == row.cost_micro_usd * 1_000


def test_five_failures_open_the_breaker_for_all(configured: Any, on_broker: RedisBroker, provider: Provider) -> None:
    provider.faults += [Fault("status", 500)] * 20

    async def calls() -> None:
        for _ in range(5):
            with pytest.raises(Exception, match="planned 500"):
                await ai.call("generate", "hi")
        with pytest.raises(ProviderDown):
            await ai.call("generate", "hi")

    run(calls())
    assert len(provider.requests) == 17  # the last of the five is not tried again


def test_a_retry_does_not_pay_again(
    configured: Any,
    on_broker: RedisBroker,
    run_worker: RunWorker,
    provider: Provider,
    database: Database,
) -> None:
    @fourlane.task(backoff=fourlane.Backoff(1, 1), result_ttl_ms=10_000)
    async def report() -> str:
        reply = await ai.call("summarize", "long text", name="sum")
        if fourlane.current_job().attempt < 3:  # type: ignore[union-attr]
            raise ValueError("after the call")
        return reply["text"]

    run_worker(on_broker)
    job = report.send()
    assert job.result(20).startswith("You said")
    assert len(provider.requests) == 1
    assert provider.requests[0]["headers"]["idempotency-key"] == f"fourlane-{job.id}-ai:sum"
    assert len(rows(database)) == 1
    assert Budgets(on_broker.store).look("-", month_now()).spent == rows(database)[0].cost_micro_usd * 1_000


def test_a_call_is_on_behalf_of_the_jobs_tenant(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, database: Database
) -> None:
    acme = str(uuid.uuid4())
    with database.begin() as session:
        session.add(Organization(id=uuid.UUID(acme), name="Acme"))
    run_worker(on_broker, "ai")
    ai.generate.send_with_options(kwargs={"prompt": "hi"}, tenant=acme).result(20)
    assert Budgets(on_broker.store).look(acme, month_now()).spent > 0
    assert [str(row.organization_id) for row in rows(database)] == [acme]


def test_a_budget_is_reserved_before_the_call(
    configured: Any, on_broker: RedisBroker, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    most = ai.estimate("gpt-6-luna", "hi", max_tokens=100).cost_usd
    assert most is not None
    configured(budgets_usd={"acme": most * 1.05})

    async def calls() -> None:
        await ai.call("generate", "hi", max_tokens=100, tenant="acme")
        assert "budget of tenant acme per month" in caplog.text  # 80 % while it was reserved
        with pytest.raises(Reject, match="the budget of tenant acme"):
            await ai.call("generate", "hi", max_tokens=200, tenant="acme")

    run(calls())
    assert len(provider.requests) == 1
    assert list(Budgets(on_broker.store).reservations()) == []


SOUND = [{"role": "user", "content": [{"type": "audio", "source": "https://example.com/a.mp3"}]}]


@pytest.mark.parametrize(
    ("options", "arguments", "words"),
    [
        ({}, {"model": "gpt-9"}, "'gpt-9' is no model"),
        ({"api_keys": {}}, {}, "set OPENAI_API_KEY"),
        ({"budgets_usd": {"*": 0}}, {}, "the budget of tenant acme per month is 0"),
        ({}, {"prompt": "word " * 180_000, "model": "claude-haiku-4.5"}, "reads 200,000 tokens"),
        ({}, {"prompt": " "}, "the prompt is empty"),
        ({}, {"prompt": None, "messages": SOUND, "model": "claude-haiku-4.5"}, "haiku-4-5 takes no sound"),
        ({}, {"max_tokens": 0}, "max_tokens must be 1 to 10,000,000, not 0"),
    ],
)
def test_bad_input_is_refused_at_enqueue(
    configured: Any, on_broker: RedisBroker, options: Any, arguments: Any, words: str
) -> None:
    configured(**options)
    given = {"prompt": "hi", "tenant": "acme"} | arguments
    with pytest.raises(InvalidArguments, match=words):
        ai.generate.send(**given)
    with pytest.raises(InvalidArguments, match=words):
        ai.generate.send_many([given])
    with pytest.raises(Reject, match=words):
        run(ai.call("generate", **given))


def test_an_estimate_calls_nobody(configured: Any, provider: Provider) -> None:
    told = ai.estimate("gpt-4o", "x" * 4_000, max_tokens=1_000)
    assert told.input_tokens == 1_008
    assert told.cost_usd == pytest.approx(1_008 * 2.5e-6 + 1_000 * 1e-5)
    assert ai.estimate("openai/nobody-knows", "x").cost_usd is None
    configured(prices={"openai/nobody-knows": {"input": 1, "output": 2}})
    assert ai.estimate("openai/nobody-knows", "x" * 4_000, max_tokens=1_000).cost_usd == pytest.approx(0.003008)
    assert provider.requests == []
