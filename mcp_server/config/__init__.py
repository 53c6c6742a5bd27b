"""Every setting once: name, type, default, meaning.

`load` reads the environment and the dotenv files and gives `Settings`, or `SettingsError` with all problems
at once. `effective` is what `quaymaster config` shows. `.env.example` and `docs/settings.md` are written from
the same schema by `make generate`.

No message of this package quotes a value: a password pasted into the wrong variable must not reach a log.
"""

from mcp_server.config.documents import render_example, render_markdown
from mcp_server.config.kinds import decode_key
from mcp_server.config.loading import default_home, load
from mcp_server.config.problems import Problem, SettingsError
from mcp_server.config.schema import Settings, describe
from mcp_server.config.showing import Effective, effective

__all__ = [
    "Effective",
    "Problem",
    "Settings",
    "SettingsError",
    "decode_key",
    "default_home",
    "describe",
    "effective",
    "load",
    "render_example",
    "render_markdown",
]
