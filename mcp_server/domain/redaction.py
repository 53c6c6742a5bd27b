"""What is hidden before anything is logged or kept: whole values, by name and by form, never a part."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "[redacted]"
MAX_TEXT = 500
MAX_ITEMS = 50
MAX_DEPTH = 8
SHORTEST_SECRET = 4
_MAX_SCAN = 4000

_NAME = re.compile(
    r"pass(word|wd|phrase)?|pwd$|secret|token|credential|authori[sz]ation|cookie"
    r"|api_?key|private_?key|access_?key|key_?hash|(^|_)key$"
    r"|(^|_)ur[li]$|dsn$|webhook|slack|discord"
    r"|values?$|variables?$|^env(_?data)?$|content$|^sql$|^parameters$",
    re.IGNORECASE,
)
_FORMS = (
    re.compile(
        r"(?<![a-z0-9])[a-z0-9]{1,16}_[a-z0-9-]{1,8}_(?:owner|admin|member|viewer)_[A-Za-z0-9_-]{16,}"
    ),
    re.compile(r"(?<=://)[^\s/@:]{0,256}:\S+(?=@)"),
    re.compile(r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"https?://(?:hooks\.slack\.com|discord(?:app)?\.com/api/webhooks)/\S+"),
    # Of services whose keys tell by their beginning whose they are: Stripe, OpenAI, GitHub, GitLab, Slack, AWS, Google.
    re.compile(
        r"(?<![A-Za-z0-9_])(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}"
        r"|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}|xox[a-z]-[A-Za-z0-9-]{10,}"
        r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35})"
    ),
    # JSON Web Tokens.
    re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    ),
)
_NAMED = re.compile(
    r"""((?:password|passwd|pwd|secret|token|api[_-]?key)["']?\s{0,8}[=:]\s{0,8})(?:"[^"]*"|'[^']*'|[^\s,;&}]+)""",
    re.IGNORECASE,
)


def redacted(value: Any, name: str = "", depth: int = 0) -> Any:
    """A JSON value without what is secret by its name or its form; long text and lists are cut."""
    if name and _NAME.search(name) and value not in (None, "", (), [], {}):
        return HIDDEN
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            redacted_text(str(key))[:100]: redacted(item, str(key), depth + 1)
            for key, item in list(value.items())[:MAX_ITEMS]
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(item, depth=depth + 1) for item in list(value)[:MAX_ITEMS]]
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redacted_text(str(value))


def without_values(text: str, values: Iterable[str]) -> str:
    """The text without these values and without their lines; shorter ones than four characters are no secret."""
    whole = set(values)
    lines = {line.strip() for value in whole for line in value.splitlines()}
    for value in sorted((one for one in whole | lines if len(one) >= SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def redacted_text(text: str) -> str:
    """The text without keys, passwords, bearer tokens and webhook addresses, at most 500 characters.

    Every store can keep it: no NUL, no half of a surrogate pair.
    """
    scanned = text[:_MAX_SCAN]
    if len(text) > _MAX_SCAN:
        # A secret that was cut in two has no form any more.
        scanned = scanned[: max(scanned.rfind(space) for space in " \t\n") + 1]
    scanned = _NAMED.sub(rf"\g<1>{HIDDEN}", scanned)
    for form in _FORMS:
        scanned = form.sub(HIDDEN, scanned)
    scanned = scanned.replace("\x00", "").encode("utf-8", "replace").decode()
    return scanned if len(scanned) <= MAX_TEXT and len(text) <= _MAX_SCAN else scanned[:MAX_TEXT] + "…"
