"""Errors named for what the caller can do about them.

QuaymasterError
├── Unauthenticated   UNAUTHENTICATED   present a valid key
├── Forbidden         FORBIDDEN         ask somebody with the role or scope
├── NotFound          NOT_FOUND         name another thing (a foreign one is not found either)
├── Invalid           INVALID           change the argument
├── Conflict          CONFLICT          look at the present state, then decide
│   ├── Locked        LOCKED            wait, or talk to the holder
│   ├── PlanStale     PLAN_STALE        ask for a new plan
│   └── WrongHost     WRONG_HOST        ask a server on `host`
├── QuotaExceeded     QUOTA_EXCEEDED    remove something, or raise the quota
├── RateLimited       RATE_LIMITED      wait `retry_after` seconds
├── Unavailable       UNAVAILABLE       try again later
│   ├── Busy          UNAVAILABLE       try again at once: nothing has happened
│   └── Degraded      DEGRADED          try again when PostgreSQL is back
├── OutcomeUnknown    OUTCOME_UNKNOWN   look whether it happened before trying again
└── Corrupt           CORRUPT           a person must look at the files
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple


class QuaymasterError(Exception):
    """Base of everything a caller may be told.

    `message` is one sentence; `next` says what to do; `details` are JSON values shown beside them.
    None of the three may hold a secret.
    """

    code: ClassVar[str] = "INTERNAL"
    default_next: ClassVar[str] = "Ask the operator to look at the server's log."

    def __init__(self, message: str, *, next: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next = next or self.default_next
        self.details = details

    def payload(self) -> dict[str, Any]:
        """The error as structured content: code, message, next, then the details."""
        return {"code": self.code, "message": self.message, "next": self.next, **self.details}


class Failure(NamedTuple):
    """What is written down of an error: its sentence, and what to do about it."""

    message: str
    next: str | None = None

    @classmethod
    def of(cls, error: QuaymasterError) -> Failure:
        return cls(error.message, error.next)


class Unauthenticated(QuaymasterError):
    code = "UNAUTHENTICATED"
    default_next = "Send a valid key as 'Authorization: Bearer KEY'."


class Forbidden(QuaymasterError):
    code = "FORBIDDEN"
    default_next = "Ask an owner or admin of the team for a key with the needed role or scope."


class NotFound(QuaymasterError):
    code = "NOT_FOUND"
    default_next = "Check the name; the list tools show what exists."


class Invalid(QuaymasterError):
    """`fields` maps an argument to the rule it broke, never to its value."""

    code = "INVALID"
    default_next = "Correct the named arguments and call again."

    def __init__(self, message: str, *, next: str | None = None, **details: Any) -> None:
        super().__init__(message, next=next, **details)

    @classmethod
    def field(cls, name: str, rule: str) -> Invalid:
        return cls(f"{name}: {rule}", fields={name: rule})


class Conflict(QuaymasterError):
    code = "CONFLICT"
    default_next = "Read the present state, then decide whether to call again."


class Locked(Conflict):
    """`conflicts` lists for each path its holder, task, mode and expiry."""

    code = "LOCKED"
    default_next = "Work on other files, wait until the lease expires, or ask the holder to release it."


class PlanStale(Conflict):
    code = "PLAN_STALE"
    default_next = "Call again without plan_token to get a new plan, and read it."


class WrongHost(Conflict):
    """`host` is where the thing is."""

    code = "WRONG_HOST"
    default_next = "Call a server on the named host."


class QuotaExceeded(QuaymasterError):
    code = "QUOTA_EXCEEDED"
    default_next = "Delete what is no longer needed, or ask the operator to raise the quota."


class RateLimited(QuaymasterError):
    """`retry_after` is in whole seconds, rounded up."""

    code = "RATE_LIMITED"
    default_next = "Wait retry_after seconds, then call again."


class Unavailable(QuaymasterError):
    code = "UNAVAILABLE"
    default_next = "Try again in a few seconds; infrastructure_status shows what is away."


class Busy(Unavailable):
    """The store gave up waiting for somebody else. Nothing has happened."""


class Degraded(Unavailable):
    code = "DEGRADED"
    default_next = "PostgreSQL is away and another home shares it; try again when it is back."


class OutcomeUnknown(QuaymasterError):
    code = "OUTCOME_UNKNOWN"
    default_next = "Read the object to see whether the change happened before calling again."


class Corrupt(QuaymasterError):
    code = "CORRUPT"
    default_next = "Run 'quaymaster registry verify' and follow what it says."
