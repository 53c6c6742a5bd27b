"""Log lines on stderr, as text or as one JSON object each, with whatever is secret by name or form left
out."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from mcp_server.domain.redaction import redacted, redacted_text

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure(
    *, level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> None:
    """Send all log lines of this process to `stream` (stderr), and to nothing else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("mcp", "uvicorn", "sse_starlette", "httpx2", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        body["message"] = redacted_text(record.getMessage())
        body |= _extra(record)
        if record.exc_info:
            body["traceback"] = _traceback(self, record)
        return json.dumps(body, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = redacted_text(record.getMessage())
        parts = [_time(record), record.levelname.ljust(7), message.replace("\n", " | ")]
        parts += [f"{name}={value}" for name, value in _extra(record).items()]
        if record.exc_info:
            parts.append("\n" + _traceback(self, record))
        return " ".join(parts)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: redacted(value, name) for name, value in vars(record).items() if name not in _STANDARD}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info else ""
    return "\n".join(redacted_text(line) for line in text.splitlines())
