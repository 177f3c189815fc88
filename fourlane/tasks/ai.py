"""AI calls as tasks: generate, analyze, translate, summarize, image, transcribe; and ``call`` for tasks of your own.

Each paid call

1. is refused at once where it can never succeed (unknown model, no key, too long a prompt, a budget of 0),
2. reserves what it may cost from the tenant's budget of the month,
3. goes through the provider's shared health (``fourlane.providers.health``), or to a fallback by rule,
4. writes its text to the job's output as it comes,
5. is a recorded step: a retry, a crash or a replay gets the recorded answer and does not pay again,
6. leaves a row in ``ai_operation_logs``, also when it failed.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from fourlane.errors import FourlaneError, InvalidArguments, ProviderDown, ProviderLimited, RateLimited, Reject
from fourlane.providers import ai as providers
from fourlane.providers.health import HealthGuard, Permit, Rules, Target, fingerprint
from fourlane.queues.guards import Budgets, ProviderStates
from fourlane.tasks.context import current_job, running
from fourlane.tasks.steps import step, step_key
from fourlane.tasks.task import default_broker, task

if TYPE_CHECKING:
    from fourlane.providers.ai import Answer

__all__ = [
    "MODELS",
    "AiConfig",
    "Estimate",
    "Reply",
    "analyze",
    "call",
    "configure",
    "estimate",
    "generate",
    "image",
    "prices_source",
    "spending",
    "summarize",
    "transcribe",
    "translate",
]

log = logging.getLogger("fourlane.ai")

MODELS: Final[Mapping[str, str]] = {
    "gpt-4o": "openai/gpt-4o",
    "dall-e-3": "openai/dall-e-3",
    "whisper": "openai/whisper-1",
    "claude-sonnet-4.5": "anthropic/claude-sonnet-4-5",
    "claude-haiku-4.5": "anthropic/claude-haiku-4-5",
    "gemini-1.5-pro": "google/gemini-1.5-pro",
    "gemini-1.5-flash": "google/gemini-1.5-flash",
    "gemini-2.5-flash": "google/gemini-2.5-flash",
    "sonar": "perplexity/sonar",
}
"""The platform's models by their short names; others are named ``provider/model``."""

_MICRO: Final = 1_000_000
_SPEAK_OPENAI: Final = frozenset({"openai", "perplexity", "openrouter"})
# What genai-prices does not know: dollars for an image of 1024 x 1024, and for a minute of audio.
_FLAT_PRICES: Final[Mapping[str, Mapping[str, float]]] = {
    "openai/dall-e-3": {"image": 0.04},
    "openai/whisper-1": {"minute": 0.006},
}
_POSTPONE_OVER_BUDGET_SECONDS: Final = 3_600.0
_MAX_PATIENCE: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class AiConfig:
    """How this process calls AI providers.

    Parameters:
      api_keys: by provider.
      base_urls: by provider, in place of the real ones.
      models: short names, added to ``MODELS`` or in their place.
      limits: by ``provider/model`` or provider: ``requests_per_minute``, ``tokens_per_minute``, ``timeout_seconds``.
      fallbacks: by model as asked for: the models to try while it is down or at its limit.
      prices: by ``provider/model``, dollars: ``input`` and ``output`` for a million tokens, ``image``, ``minute``.
      budgets_usd: by tenant, dollars a month; ``*`` is for all that are not named. Without either: no bound.
      over_budget: ``refuse`` makes the job a dead letter, ``postpone`` asks again each hour.
      database: for the rows of ``ai_operation_logs``; None writes none.
    """

    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    base_urls: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fallbacks: Mapping[str, list[str]] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    budgets_usd: Mapping[str, float] = field(default_factory=dict)
    over_budget: Literal["refuse", "postpone"] = "refuse"
    database: Any = None

    def resolve(self, model: str) -> str:
        """``provider/model`` of a name. Raises InvalidArguments."""
        full = self.models.get(model) or MODELS.get(model) or model
        provider, _, name = full.partition("/")
        if provider not in providers.BASE_URLS or not name:
            known = ", ".join(sorted({*MODELS, *self.models}))
            raise InvalidArguments(f"{model!r} is no model; use PROVIDER/MODEL or one of {known}")
        return full

    def account(self, provider: str, timeout_seconds: float) -> providers.Account:
        """Raises Reject: there is no key."""
        key = self.api_keys.get(provider)
        if not key:
            raise Reject(f"there is no API key for {provider}; set {_KEY_NAMES[provider]}")
        url = self.base_urls.get(provider) or providers.BASE_URLS[provider]
        return providers.Account(provider, key, url, timeout_seconds)

    def rules(self, full: str) -> Rules:
        given = self.limits.get(full) or self.limits.get(full.partition("/")[0]) or {}
        return Rules(
            requests_per_minute=int(given.get("requests_per_minute", 0)),
            tokens_per_minute=int(given.get("tokens_per_minute", 0)),
            timeout_seconds=float(given.get("timeout_seconds", 30.0)),
            patience_seconds=_MAX_PATIENCE,
        )

    def budget(self, tenant: str) -> int:
        """Millionths of a dollar a month; -1: no bound."""
        dollars = self.budgets_usd.get(tenant, self.budgets_usd.get("*"))
        return -1 if dollars is None else int(dollars * _MICRO)


_KEY_NAMES: Final = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_AI_API_KEY",
    "perplexity": "PERPLEXITY_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}
_config: AiConfig | None = None
_guards: dict[int, tuple[HealthGuard, Budgets]] = {}


def configure(config: AiConfig | None) -> None:
    """Set how this process calls. Without it, the first call takes the settings' values."""
    global _config
    _config = config


def _configured() -> AiConfig:
    if _config is None:
        from fourlane.app import configure_ai

        configure_ai()
        assert _config is not None
    return _config


class Reply(TypedDict):
    """The result of a call. Costs in dollars; ``cost_known`` is false where no price is known."""

    text: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    cost_known: bool


# Prices ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call may take: tokens of the prompt (4 characters each, an approximation), and the most it may cost."""

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


def estimate(model: str, prompt: str, *, max_tokens: int = 1_024, system: str | None = None) -> Estimate:
    """Estimate before running; calls nobody. Raises InvalidArguments: unknown model."""
    config = _configured()
    full = config.resolve(model)
    tokens = _count(prompt, system)
    cost = _cost(config, full, providers.Answer("", tokens, max_tokens, seconds=60.0))
    return Estimate(full, tokens, max_tokens, None if cost is None else float(cost))


def _count(prompt: str, system: str | None) -> int:
    # Bytes, so that scripts of many bytes a letter, which take more tokens, are not counted too low.
    return (len(prompt.encode("utf-8", "replace")) + len((system or "").encode("utf-8", "replace"))) // 4 + 8


def _cost(config: AiConfig, full: str, answer: Answer) -> Decimal | None:
    """Dollars; None where nobody knows the price."""
    own = config.prices.get(full) or _FLAT_PRICES.get(full)
    if own is not None:
        millions = Decimal(answer.input_tokens) * Decimal(str(own.get("input", 0)))
        millions += Decimal(answer.output_tokens) * Decimal(str(own.get("output", 0)))
        minutes = Decimal(str(answer.seconds)) / 60
        return millions / _MICRO + Decimal(str(own.get("image", 0))) + minutes * Decimal(str(own.get("minute", 0)))
    try:
        import genai_prices
    except ModuleNotFoundError:
        return None
    provider, _, name = full.partition("/")
    usage = genai_prices.Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)
    try:
        return Decimal(genai_prices.calc_price(usage, model_ref=name, provider_id=provider).total_price)
    except LookupError:
        return None


def _window(full: str) -> int | None:
    """Tokens that the model can read; None where nobody knows."""
    try:
        import genai_prices
    except ModuleNotFoundError:
        return None
    provider, _, name = full.partition("/")
    try:
        return genai_prices.calc_price(genai_prices.Usage(), model_ref=name, provider_id=provider).model.context_window
    except LookupError:
        return None


def prices_source() -> str:
    """Where prices come from. The package carries no date of its own: its release is the age of its prices."""
    try:
        return f"genai-prices {version('genai-prices')}"
    except PackageNotFoundError:
        return "FOURLANE_AI alone; for more, pip install 'fourlane[ai]'"


def spending(tenant: str, month: str | None = None) -> dict[str, float]:
    """Dollars that a tenant spent in a month (``2026-11``; this one by default): ``spent``, ``reserved``, and by
    ``model:…`` and ``task:…``."""
    told = Budgets(default_broker().store).look(tenant, month or _month())
    return {name: micro / _MICRO for name, micro in told.items()}


# Checks before a job is accepted --------------------------------------------------------------------------------


def _check(model: str, prompt: str, max_tokens: int, tenant: str | None, system: str | None = None) -> None:
    """Refuse what can never succeed. Raises InvalidArguments."""
    config = _configured()
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidArguments("the prompt is empty")
    if max_tokens < 1:
        raise InvalidArguments(f"max_tokens must be 1 or more, not {max_tokens}")
    full = config.resolve(model)
    window = _window(full)
    tokens = _count(prompt, system)
    if window is not None and tokens > window:
        raise InvalidArguments(f"{full} reads {window:,} tokens, the prompt has about {tokens:,}; shorten it")
    for name in (full, *(config.resolve(other) for other in config.fallbacks.get(model, ()))):
        if not config.api_keys.get(name.partition("/")[0]):
            provider = name.partition("/")[0]
            raise InvalidArguments(f"there is no API key for {provider}; set {_KEY_NAMES[provider]}")
    if config.budget(tenant or "") == 0:
        raise InvalidArguments(f"the budget of {tenant or 'calls without a tenant'} is 0; raise it in FOURLANE_AI")


def _check_text(
    prompt: str,
    *,
    model: str = "gpt-4o",
    max_tokens: int = 1_024,
    system: str | None = None,
    tenant: str | None = None,
    **_: Any,
) -> None:
    _check(model, prompt, max_tokens, tenant, system)


def _check_openai(kind: str, model: str, text: str, tenant: str | None) -> None:
    _check(model, text, 1, tenant)
    full = _configured().resolve(model)
    if full.partition("/")[0] not in _SPEAK_OPENAI:
        raise InvalidArguments(f"{full} cannot do {kind}; use a model of OpenAI")


def _check_image(prompt: str, *, model: str = "dall-e-3", tenant: str | None = None, **_: Any) -> None:
    _check_openai("images", model, prompt, tenant)


def _check_audio(path: str, *, model: str = "whisper", tenant: str | None = None, **_: Any) -> None:
    _check_openai("transcription", model, path, tenant)


# The tasks ------------------------------------------------------------------------------------------------------

_OPTIONS: Final[dict[str, Any]] = {"service": "ai", "result_ttl_ms": 86_400_000, "timeout_ms": 600_000}


@task(name="fourlane.ai.generate", check=_check_text, **_OPTIONS)
async def generate(
    prompt: str,
    *,
    model: str = "gpt-4o",
    system: str | None = None,
    max_tokens: int = 1_024,
    tenant: str | None = None,
) -> Reply:
    """Answer a prompt. The text also goes to the job's output as it comes (``job.stream()``).

    Parameters:
      model: a short name of ``MODELS``, or ``provider/model``.
      tenant: whose budget; an organization's id where rows shall belong to it.
    """
    return await call("generate", prompt, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


_ANALYST: Final = "Analyze the text that the user gives. Name its subject, tone, main claims and open questions."


@task(name="fourlane.ai.analyze", check=_check_text, **_OPTIONS)
async def analyze(
    text: str, *, model: str = "gpt-4o", system: str = _ANALYST, max_tokens: int = 1_024, tenant: str | None = None
) -> Reply:
    """Analyze a text; ``system`` says how."""
    return await call("analyze", text, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


@task(name="fourlane.ai.translate", check=_check_text, **_OPTIONS)
async def translate(
    text: str, *, to: str, model: str = "gpt-4o", max_tokens: int = 2_048, tenant: str | None = None
) -> Reply:
    """Translate a text into a language (``to``: its name or code)."""
    system = f"Translate what the user gives into {to}. Answer with the translation alone."
    return await call("translate", text, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


@task(name="fourlane.ai.summarize", check=_check_text, **_OPTIONS)
async def summarize(
    text: str, *, model: str = "gpt-4o", words: int = 100, max_tokens: int = 1_024, tenant: str | None = None
) -> Reply:
    """Summarize a text in about so many words."""
    system = f"Summarize what the user gives in at most {words} words."
    return await call("summarize", text, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


@task(name="fourlane.ai.image", check=_check_image, **_OPTIONS)
async def image(prompt: str, *, model: str = "dall-e-3", size: str = "1024x1024", tenant: str | None = None) -> Reply:
    """Make an image; the text of the reply is its URL."""
    return await call("image", prompt, model=model, tenant=tenant, size=size)


@task(name="fourlane.ai.transcribe", check=_check_audio, **_OPTIONS)
async def transcribe(path: str, *, model: str = "whisper", tenant: str | None = None) -> Reply:
    """The text of an audio file that the worker can read."""
    return await call("transcribe", path, model=model, tenant=tenant)


# One call -------------------------------------------------------------------------------------------------------


async def call(
    operation: str,
    prompt: str,
    *,
    model: str = "gpt-4o",
    system: str | None = None,
    max_tokens: int = 1_024,
    tenant: str | None = None,
    name: str | None = None,
    size: str = "1024x1024",
) -> Reply:
    """Make one paid call as a step, inside an async task of your own or outside of any.

    Parameters:
      name: of the step; give one where a job makes several calls of an operation.

    Raises:
      Reject: it can never succeed, or the provider refuses the content, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    try:
        _check(model, prompt, max_tokens, tenant, system)
    except InvalidArguments as error:
        raise Reject(str(error)) from None
    one = _Call(_configured(), operation, prompt, system, max_tokens, tenant, name or operation, size)
    async with step[dict[str, Any]](f"ai:{one.name}") as paid:
        if not paid.recorded:
            paid.result = await one.pay(model)
    kept: dict[str, Any] = paid.result
    if paid.recorded:
        one.say(kept["reply"]["text"])
    # Both do nothing the second time, so a worker may die between any two of these lines.
    await one.book(kept)
    if kept["refused"]:
        raise Reject(kept["refused"])
    reply: Reply = kept["reply"]
    return reply


class _Call:
    """One call on its way: to the first model that is well, through budget and health."""

    def __init__(
        self,
        config: AiConfig,
        operation: str,
        prompt: str,
        system: str | None,
        max_tokens: int,
        tenant: str | None,
        name: str,
        size: str,
    ) -> None:
        self.config = config
        self.operation = operation
        self.prompt = prompt
        self.system = system
        self.max_tokens = max_tokens
        self.tenant = tenant
        self.name = name
        self.size = size
        self.job = current_job()
        self.key = step_key(f"ai:{name}") if self.job is not None else f"fourlane-{uuid.uuid4()}"
        self.guard, self.budgets = _shared()

    async def pay(self, model: str) -> dict[str, Any]:
        """What the step records: the reply, and all that the books need."""
        waits: list[RateLimited] = []
        for candidate in (model, *self.config.fallbacks.get(model, ())):
            full = self.config.resolve(candidate)
            try:
                return await self._pay(full)
            except (ProviderDown, ProviderLimited) as error:
                waits.append(error)
        raise min(waits, key=lambda error: error.delay_ms)

    async def _pay(self, full: str) -> dict[str, Any]:
        provider, _, model = full.partition("/")
        rules = self.config.rules(full)
        account = self.config.account(provider, rules.timeout_seconds)
        month = _month()
        tokens = _count(self.prompt, self.system) + self.max_tokens
        await self._reserve_budget(full, month)
        started = time.monotonic()

        async def attempt(permit: Permit) -> Answer:
            try:
                answer = await self._ask(account, model)
            except providers.Refused as refused:
                permit.used_tokens = refused.answer.input_tokens + refused.answer.output_tokens or None
                raise
            permit.used_tokens = answer.input_tokens + answer.output_tokens or None
            return answer

        target = Target(provider, model, fingerprint(account.api_key))
        refused = ""
        try:
            answer = await self.guard.acall(target, rules, attempt, read=providers.read_error, tokens=tokens)
        except providers.Refused as error:
            answer, refused = error.answer, str(error)
        except BaseException as error:
            await asyncio.shield(self._failed(full, month, started, error))
            if providers.read_error(error).verdict == "neutral" and _is_fault_of_ours(error):
                raise Reject(f"{full}: {_words(error)}") from error
            raise
        cost = _cost(self.config, full, answer)
        if cost is None:
            log.warning("no price is known for %s; give one in FOURLANE_AI", full)
        return {
            "reply": {
                "text": answer.text,
                "model": full,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "cost_usd": float(cost or 0),
                "cost_known": cost is not None,
            },
            "refused": refused,
            "micro": int((cost or 0) * _MICRO),
            "month": month,
            "ms": int((time.monotonic() - started) * 1000),
            "row": str(uuid.uuid4()),
        }

    async def _ask(self, account: providers.Account, model: str) -> Answer:
        if self.operation == "image":
            return await providers.image(account, model, self.prompt, size=self.size, idempotency_key=self.key)
        if self.operation == "transcribe":
            return await providers.transcribe(account, model, self.prompt, idempotency_key=self.key)
        self.begin()
        return await providers.ask(
            account,
            model,
            self.prompt,
            system=self.system,
            max_tokens=self.max_tokens,
            on_text=self.say,
            idempotency_key=self.key,
        )

    # What is said -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A call that is made again says all of it again."""
        run = running.get()
        if run is not None and run.output is not None:
            run.output.begin()

    def say(self, text: str) -> None:
        run = running.get()
        if run is not None and run.output is not None:
            run.output.write(text)

    # Books --------------------------------------------------------------------------------------------------

    async def _reserve_budget(self, full: str, month: str) -> None:
        budget = self.config.budget(self.tenant or "")
        guess = providers.Answer("", _count(self.prompt, self.system), self.max_tokens, seconds=60.0)
        most = int((_cost(self.config, full, guess) or 0) * _MICRO)
        word, so_far = await asyncio.to_thread(self.budgets.reserve, self.tenant or "-", month, self.key, most, budget)
        who = self.tenant or "calls without a tenant"
        if word == "warn":
            log.warning("budget tenant=%s month=%s at %.0f %%", who, month, 100 * so_far / budget)
        if word == "over":
            words = f"the budget of {who} for {month} is spent: ${so_far / _MICRO:.4f} of ${budget / _MICRO:.4f}, "
            words += f"and this call may cost ${most / _MICRO:.4f}"
            if self.config.over_budget == "postpone":
                log.warning("%s; postponed", words)
                raise RateLimited(_POSTPONE_OVER_BUDGET_SECONDS)
            raise Reject(words)

    async def book(self, kept: dict[str, Any]) -> None:
        reply = kept["reply"]
        await self._settle(reply["model"], kept["month"], kept["micro"])
        await self._write_row(
            kept["row"], reply["model"], reply["input_tokens"], reply["output_tokens"], kept["micro"], kept["ms"],
            kept["refused"],
        )  # fmt: skip

    async def _failed(self, full: str, month: str, started: float, error: BaseException) -> None:
        await self._settle(full, month, 0)
        if not isinstance(error, (ProviderDown, ProviderLimited)):  # then there was a call
            ms = int((time.monotonic() - started) * 1000)
            await self._write_row(str(uuid.uuid4()), full, 0, 0, 0, ms, _words(error))

    async def _settle(self, full: str, month: str, micro: int) -> None:
        counted = (f"model:{full}", f"task:{self.job.task if self.job else self.operation}")
        await asyncio.to_thread(self.budgets.settle, self.tenant or "-", month, self.key, micro, counted)

    async def _write_row(
        self, row_id: str, full: str, tokens_in: int, tokens_out: int, micro: int, ms: int, error: str
    ) -> None:
        if self.config.database is None:
            return
        provider, _, model = full.partition("/")
        row = {
            "id": uuid.UUID(row_id),
            "organization_id": _uuid(self.tenant),
            "job_id": self.job.id if self.job else None,
            "operation": self.operation,
            "provider": provider,
            "model": model,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "cost_micro_usd": micro,
            "duration_ms": ms,
            "status": "error" if error else "ok",
            "error_message": error[:1_000] or None,
        }
        from fourlane.app import write_ai_row

        try:
            await asyncio.to_thread(write_ai_row, self.config.database, row)
        except FourlaneError as fault:
            # The answer is paid for and recorded: a database that is away does not undo that.
            log.error("the row of an AI call of job %s was not written: %s", row["job_id"], fault)


def _shared() -> tuple[HealthGuard, Budgets]:
    run = running.get()
    store = default_broker().store if run is None else run.store
    shared = _guards.get(id(store))
    if shared is None:
        shared = _guards.setdefault(id(store), (HealthGuard(ProviderStates(store)), Budgets(store)))
    return shared


def _is_fault_of_ours(error: BaseException) -> bool:
    """The provider said that this request can never succeed: wrong key, wrong model, too long, malformed."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return isinstance(status, int) and 400 <= status < 500


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:1_000]


def _uuid(tenant: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(tenant) if tenant else None
    except ValueError:
        return None


def _month() -> str:
    return time.strftime("%Y-%m", time.gmtime())
