"""What a command on a schema may end with, beside the errors of every use case.

QuaymasterError
├── Conflict
│   ├── Drift            DRIFT             compare files and database, then decide
│   ├── HalfApplied      HALF_APPLIED      look how far it came, then `resolve`
│   └── Refused          REFUSED           give what is asked for (code, token, flag), or leave it
├── StatementFailed      STATEMENT_FAILED  correct the SQL that is named
└── ProgramFailed        PROGRAM_FAILED    correct the program of the code base that is named
"""

from __future__ import annotations

from mcp_server.domain.errors import Conflict, QuaymasterError


class Drift(Conflict):
    """Files and database do not agree; nothing was changed."""

    code = "DRIFT"
    default_next = "See 'quaymaster db migrate -t status'."


class HalfApplied(Conflict):
    """A migration without transaction stopped at a statement of which nobody knows whether it ran."""

    code = "HALF_APPLIED"
    default_next = (
        "Look at the database; then 'quaymaster db migrate -t resolve' with --applied VERSION (all of it is there), "
        "--rolled-back VERSION (nothing is) or --continue-at N VERSION."
    )


class Refused(Conflict):
    """Nothing was changed, because something that was asked for did not come."""

    code = "REFUSED"
    default_next = "Nothing has been changed."


class StatementFailed(QuaymasterError):
    """The database refused a statement; its transaction was rolled back."""

    code = "STATEMENT_FAILED"
    default_next = "Correct the statement and run the command again; what was committed before it stays."


class ProgramFailed(QuaymasterError):
    """A program of the code base (seed.py, Alembic's env.py) did not end well."""

    code = "PROGRAM_FAILED"
    default_next = "Correct the program and run the command again; what was committed before stays."
