"""`.env.example` and `docs/settings.md`, written from the schema."""

from __future__ import annotations

from mcp_server.config.schema import Variable, describe

_INTRODUCTION = """\
# Settings

Written by `make generate`; do not edit by hand.

A value is looked for on the command line, in the environment, then in `.env.local`, `.env.{environment}`
and `.env` of the working directory; the first that has it wins. An empty value counts as unset. Values in
files are taken literally: `${...}` is not replaced. `QUAYMASTER_ENV` is not read from `.env.{environment}`.

PostgreSQL is named by `QUAYMASTER_DATABASE_URL` or by `QUAYMASTER_DB_*`, not by both. Production needs it;
development and test run on the JSON registry without it. `CODEB_DB_*`, `REDIS_HOST` and `REDIS_PORT` count
only where Quaymaster's own names are unset.

`quaymaster config` shows every setting with where it came from, secrets redacted. A wrong or missing value
stops the start with all problems listed; a name that does not exist is a warning.

| variable | value | default | meaning |
|---|---|---|---|
"""


def render_markdown() -> str:
    """docs/settings.md."""
    lines = []
    for variable in describe():
        names = "<br>".join(f"`{name}`" for name in (variable.name, *variable.aliases))
        rule = variable.rule + (" (secret)" if variable.secret else "")
        cells = [names, rule, _default_cell(variable), variable.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return _INTRODUCTION + "\n".join(lines) + "\n"


def _default_cell(variable: Variable) -> str:
    if " " in variable.default:
        return variable.default
    return f"`{variable.default}`" if variable.default else "unset"


def render_example() -> str:
    """.env.example: every variable, none of them set."""
    lines = [
        "# Settings of Quaymaster. Copy to .env and uncomment what you change.",
        "# Written by `make generate`; do not edit by hand.",
    ]
    for variable in describe():
        written = " " not in variable.default
        lines += ["", f"# {variable.meaning}", f"# Value: {variable.rule}."]
        lines += [] if written else [f"# Default: {variable.default}."]
        lines.append(f"#{variable.name}={variable.default if written else ''}")
    return "\n".join(lines) + "\n"
