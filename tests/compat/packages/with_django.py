"""django_dramatiq: rows of the admin say how each job ended; results; connections are closed."""

import django
import dramatiq
import seen
from django.conf import settings

if not settings.configured:
    middleware = ["AgeLimit", "TimeLimit", "Callbacks", "Retries"]
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_dramatiq"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": seen.FOLDER / "django.sqlite",
                "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
        DRAMATIQ_BROKER={
            "BROKER": "fourlane.RedisBroker",
            "OPTIONS": {"url": seen.URL},
            "MIDDLEWARE": [
                *[f"dramatiq.middleware.{name}" for name in middleware],
                "dramatiq.middleware.AsyncIO",
                "django_dramatiq.middleware.AdminMiddleware",
                "django_dramatiq.middleware.DbConnectionsMiddleware",
            ],
        },
        DRAMATIQ_RESULT_BACKEND={
            "BACKEND": "dramatiq.results.backends.redis.RedisBackend",
            "BACKEND_OPTIONS": {"url": seen.URL},
        },
    )
    django.setup()


@dramatiq.actor(store_results=True)
def doubles(number: int) -> int:
    return 2 * number


@dramatiq.actor
async def awaits() -> None: ...


@dramatiq.actor(max_retries=0)
def fails() -> None:
    raise ValueError


@dramatiq.actor(min_backoff=60_000)
def fails_for_now() -> None:
    raise ValueError


if __name__ == "__main__":
    from django.core.management import call_command
    from django_dramatiq.models import Task

    def status(message: "dramatiq.Message[object]") -> str:
        return str(Task.tasks.get(id=message.message_id).status)

    call_command("migrate", verbosity=0)
    # Sent before the worker begins: the row of who sends might be written after those of who works.
    sent = doubles.send(4)
    expected = [(sent, "done"), (awaits.send(), "done"), (fails.send(), "failed"), (fails_for_now.send(), "delayed")]
    with seen.running("with_django"):
        seen.check("a result", lambda: sent.get_result(block=True, timeout=5_000) == 8)
        for message, wanted in expected:
            seen.check(f"the row of {message.actor_name} is {wanted}", lambda m=message, w=wanted: status(m) == w, 5)
        seen.check("no hook fails", lambda: "CRITICAL" not in seen.log(), 0.1)
