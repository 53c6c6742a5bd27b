"""What is hidden before anything is logged or kept: whole values, by name and by form, never a part of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"
MAX_TEXT = 500
MAX_ITEMS = 50

_NAME = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|authori[sz]ation|api_?key|private_?key|access_?key|(^|_)key$|(^|_)url$|webhook|slack|discord"
    r"|values?$|variables?$|content$|^sql$|^parameters$",
    re.IGNORECASE,
)
_FORMS = (
    re.compile(r"[a-z0-9]+_[a-z0-9-]{1,8}_(?:owner|admin|member|viewer)_[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"https?://(?:hooks\.slack\.com|discord(?:app)?\.com/api/webhooks)/\S+"),
)


def redacted(value: Any, name: str = "") -> Any:
    """A JSON value with everything hidden that is secret by its name or its form; long text and lists are cut."""
    if name and _NAME.search(name) and value not in (None, "", (), [], {}):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key)[:100]: redacted(item, str(key)) for key, item in list(value.items())[:MAX_ITEMS]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(item) for item in list(value)[:MAX_ITEMS]]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redacted_text(str(value))


def redacted_text(text: str) -> str:
    """The text with keys, passwords in addresses, bearer tokens and webhook addresses hidden, at most 500 characters."""
    for form in _FORMS:
        text = form.sub(HIDDEN, text)
    text = text.replace("\x00", "")
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
