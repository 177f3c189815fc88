"""Encryption of jobs: what nobody may read in Redis of the jobs of tasks with ``encrypt=True``, and of what they leave.

A sealed job's one argument is the ciphertext of its real ones and of the messages in its options, in base64; its
options say ``sealed``. The job's id and task and all options are authenticated with it, so that a ciphertext opens in
its own job only, as that was made. Whatever a sealed job leaves (result, steps, output, log lines, progress) is sealed
for its id likewise. The keys are those of FOURLANE_ENCRYPTION_KEYS: the newest encrypts, any of them opens.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fourlane import codec, crypto
from fourlane.codec import MESSAGES, SEALED, Envelope, is_sealed
from fourlane.errors import AlteredCiphertext, EncryptionError, Reject
from fourlane.options import Encrypt
from fourlane.root import root

__all__ = [
    "Seal",
    "check_keys",
    "is_bound_to_job",
    "open_arguments",
    "open_file",
    "open_job",
    "open_result",
    "seal_arguments",
    "seal_file",
    "seal_job",
    "seal_parts",
]

_BOUND_TO_TASK: Final = 1  # as of jobs that were sealed when only the task was authenticated
_BOUND_TO_JOB: Final = 2  # likewise, with the id and the tenant
_BOUND_WHOLE: Final = 3


class _Inside(msgspec.Struct, array_like=True, gc=False):
    """What is encrypted of a job."""

    args: list[Any]
    kwargs: dict[str, Any]
    messages: dict[str, Any] = {}


_decode_inside = msgspec.json.Decoder(_Inside).decode


# Jobs -------------------------------------------------------------------------------------------------------------


def seal_job(
    job_id: str, task: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """What stands in the place of a job's arguments, and of its options.

    Raises:
      EncryptionError: there are no keys.
      InvalidArguments: JSON cannot carry what it is made of.
    """
    text, rest = _sealed(
        job_id, task, codec.encode_value(list(args), task), codec.encode_value(dict(kwargs or {}), task), options
    )
    return [text], rest


def seal_parts(
    job_id: str, task: str, args: bytes, kwargs: bytes, options: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """As seal_job, of arguments that are JSON already.

    Raises:
      UnreadableJob: they are no arguments, which nobody could see later.
      EncryptionError: there are no keys.
    """
    codec.decode(codec.encode_parts(task, args, kwargs, {}, 0))
    text, rest = _sealed(job_id, task, args, kwargs, options)
    return msgspec.json.encode([text]), rest


def _sealed(
    job_id: str, task: str, args: bytes, kwargs: bytes, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    messages = {name: options[name] for name in MESSAGES if name in options}
    rest = {name: value for name, value in options.items() if name not in messages} | {SEALED: _BOUND_WHOLE}
    data = b"[" + b",".join((args, kwargs, codec.encode_value(messages, task))) + b"]"
    return _seal(data, _context(job_id, task, codec.canonical(rest, task))), rest


def open_job(envelope: Envelope, job_id: str, demanded: Encrypt = False) -> Envelope:
    """The same job with its real arguments.

    Parameters:
      demanded: what its task says.

    Raises:
      EncryptionError: the key is missing.
      Reject: it was tampered with, or it is not sealed and must be.
    """
    if not is_sealed(envelope):
        if demanded is True:
            raise Reject(
                f"the arguments are not encrypted, and {envelope.task!r} is declared with encrypt=True: somebody else "
                'wrote this job, or it is from before that (encrypt="accept-plain" lets those run)'
            )
        if demanded and _is_ciphertext(envelope.args):
            raise Reject(f"{envelope.task}: its arguments are encrypted, and its option that says so was taken away")
        return envelope
    data = _open_sealed(envelope, job_id)
    try:
        inside = _decode_inside(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Reject(f"{envelope.task}: what was encrypted is no job's arguments: {error}") from None
    options = {name: value for name, value in envelope.options.items() if name != SEALED} | inside.messages
    return Envelope(envelope.task, inside.args, inside.kwargs, options, envelope.enqueued_ms)


def _is_ciphertext(args: list[Any]) -> bool:
    if len(args) != 1 or not isinstance(args[0], str):
        return False
    try:
        return _ring().encrypted(base64.b64decode(args[0], validate=True))
    except ValueError:
        return False


def is_bound_to_job(options: Mapping[str, Any]) -> bool:
    """Not so: it is not sealed, or was by an earlier version, and so may have left things that are not sealed."""
    return bool(options.get(SEALED, _BOUND_TO_TASK) != _BOUND_TO_TASK)


def _open_sealed(envelope: Envelope, job_id: str) -> bytes:
    if envelope.kwargs or len(envelope.args) != 1 or not isinstance(envelope.args[0], str):
        raise Reject(f"{envelope.task}: these are not the arguments of a sealed job")
    try:
        return _open(envelope.args[0], _context_of(envelope, job_id))
    except AlteredCiphertext as error:
        raise Reject(str(error)) from None


def _context_of(envelope: Envelope, job_id: str) -> str:
    task, options = envelope.task, envelope.options
    if options[SEALED] == _BOUND_TO_TASK:
        return f"arguments:{task}"
    if options[SEALED] == _BOUND_TO_JOB:
        return f"job {msgspec.json.encode((job_id, task, str(options.get('tenant') or ''))).decode()}"
    return _context(job_id, task, codec.canonical(options, task))


def _context(job_id: str, task: str, options: bytes) -> str:
    return f"job {msgspec.json.encode((job_id, task, msgspec.Raw(options))).decode()}"


# What jobs leave --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seal:
    """Keeps what a job leaves.

    Parameters:
      job_id: as it is stored.
      strict: what is not sealed is not believed.
    """

    job_id: str
    strict: bool = False

    def close(self, what: str, data: bytes) -> bytes:
        """Raises EncryptionError: there are no keys."""
        return _ring().encrypt(data, f"{what} of job {self.job_id}")

    def open(self, what: str, data: bytes) -> bytes:
        """What was closed; all else as it is, where that may be. Text and JSON do not begin as a ciphertext does.

        Raises EncryptionError.
        """
        if data[:1] == b"\x01":
            return _ring().decrypt(data, f"{what} of job {self.job_id}")
        if self.strict:
            raise AlteredCiphertext(f"{what} of job {self.job_id}: is not encrypted, and must be")
        return data

    def text(self, what: str, data: bytes) -> str:
        """As close, for what is kept as JSON."""
        return base64.b64encode(self.close(what, data)).decode()

    def open_text(self, what: str, text: str) -> bytes:
        """Raises EncryptionError."""
        return _open(text, f"{what} of job {self.job_id}")


def open_result(job_id: str, text: str, *, task: str | None = None) -> Any:
    """The result again; an earlier version's is bound to its task alone. Raises EncryptionError."""
    return msgspec.json.decode(_open(text, f"result:{task}" if task else f"result of job {job_id}"))


# What is kept before there is a job -------------------------------------------------------------------------------


def seal_arguments(place: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments that lie at a place until jobs are made of them: a schedule's. Equal ones are sealed alike."""
    data = msgspec.json.encode((args, kwargs))
    return base64.b64encode(_ring().encrypt_alike(data, f"arguments at {place}")).decode()


def open_arguments(place: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    """Raises EncryptionError."""
    return msgspec.json.decode(_open(text, f"arguments at {place}"), type=tuple[list[Any], dict[str, Any]])


# What is kept outside of Redis ----------------------------------------------------------------------------------


def seal_file(name: str, data: bytes) -> bytes:
    """A file of an encrypted job, bound to its name, which has the job's tenant and id. Raises EncryptionError."""
    return _ring().encrypt(data, f"file {name}")


def open_file(name: str, data: bytes) -> bytes:
    """Raises EncryptionError."""
    return _ring().decrypt(data, f"file {name}")


# ------------------------------------------------------------------------------------------------------------------


def check_keys(tasks: Iterable[Any]) -> None:
    """Whoever is to work for these tasks, an encrypted one among them, has keys. Raises EncryptionError."""
    encrypted = sorted(task.actor_name for task in tasks if getattr(task, "encrypt", False))
    if not encrypted:
        return
    try:
        _ring()
    except EncryptionError as error:
        raise EncryptionError(f"the jobs of {', '.join(encrypted)} are encrypted: {error}") from None


def _ring() -> crypto.Keyring:
    if not crypto.is_configured():
        crypto.configure_from(root().settings)
    return crypto.keyring()


def _seal(data: bytes, context: str) -> str:
    return base64.b64encode(_ring().encrypt(data, context)).decode()


def _open(text: str, context: str) -> bytes:
    try:
        return _ring().decrypt(base64.b64decode(text, validate=True), context)
    except ValueError:  # its characters are none of base64's
        raise AlteredCiphertext(f"{context}: this is no ciphertext of ours") from None
