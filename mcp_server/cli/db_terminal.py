"""The person at the terminal, or their absence: colours, bars, codes to type."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

import anyio

from mcp_server.cli.context import Context, Painted, harmless
from mcp_server.cli.db_words import language, say
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.schemas.danger import Danger, codes
from mcp_server.domain.schemas.failures import Refused

COUNTDOWN_SECONDS = {"production": 30, "test": 3}
USUAL_COUNTDOWN = 5
BAR = 20
GENERAL = (Conflict, Invalid, NotFound, Unavailable)


class Terminal:
    """Answers go to stdout (not with `--json`, where one document does), everything else to stderr."""

    def __init__(self, context: Context, *, as_json: bool) -> None:
        self._context = context
        self.as_json = as_json
        self.lang = language()

    def print(self, text: str) -> None:
        """A reader who has gone (`| head -1`) does not stop the work on the databases that are left."""
        if self.as_json:
            return
        try:
            self._context.print(text)
        except BrokenPipeError:
            self._context.out = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends

    def tell(self, text: str) -> None:
        self._context.tell(text)

    def good(self, text: str) -> None:
        self.print(self._coloured(text, "32", self._context.out))

    def bad(self, text: str) -> None:
        self.print(self._coloured(text, "31", self._context.out))

    def fail(self, name: str, error: QuaymasterError) -> None:
        head = self._coloured(f"{name}:", "31", self._context.err)
        message = error.message.removeprefix(f"{name}: ").rstrip(".")
        # What is said to a tool's caller in general says nothing to a person at a command line.
        general = type(error) in GENERAL and error.next == error.default_next
        after = "" if general else error.next
        line = f"{head} {harmless(f'{message}. {after}')}".rstrip()
        self._context.tell(Painted(line) if isinstance(head, Painted) else line)

    @property
    def is_person(self) -> bool:
        return sys.stdin.isatty() and self._context.err.isatty()

    def ask_for_codes(self, plan: Danger) -> None:
        """Show the plan and have both codes typed. Raises Refused for a wrong one, or for nobody there."""
        self.show(plan)
        if not self.is_person:
            raise Refused(
                say("ask.terminal", self.lang, action=plan.action), next=say("ask.token", self.lang)
            )
        for number, code in enumerate(codes(secrets.token_bytes(32), plan), 1):
            prompt = say(
                "ask.code",
                self.lang,
                code=self._coloured(code, "1;33", self._context.err),
                action=plan.action,
                database=plan.database,
                environment=plan.environment,
                number=number,
            )
            if self._typed(prompt).upper() != code:
                raise Refused(say("ask.wrong", self.lang), next=say("unchanged", self.lang))

    def show(self, plan: Danger) -> None:
        title = say(
            "ask.title",
            self.lang,
            action=plan.action,
            database=plan.database,
            environment=plan.environment,
            place=plan.place,
        )
        self.tell(self._coloured(title, "1;31", self._context.err))
        for effect in plan.effects:
            self.tell(f"  {effect}")
        for loss in plan.losses:
            self.tell(self._coloured(f"  {say('ask.lost', self.lang, what=loss)}", "31", self._context.err))
        for difference in plan.left:
            self.tell(f"  {say('ask.left', self.lang, what=difference)}")

    async def count_down(self, environment: str) -> None:
        seconds = COUNTDOWN_SECONDS.get(environment, USUAL_COUNTDOWN)
        self.tell(say("deploy.in", self.lang, seconds=seconds))
        try:
            for step in range(seconds * 5):
                self.bar(step, seconds * 5, f"{seconds - step // 5} s")
                await anyio.sleep(0.2)
            self.bar(1, 1, "")
        finally:
            self.end_bar()

    def bar(self, done: int, whole: int, label: str) -> None:
        """A bar on the terminal; nothing elsewhere."""
        if self._context.err.isatty():
            filled = BAR * done // max(whole, 1)
            room = max(self._columns() - BAR - 4, 0)
            self._context.err.write(
                f"\r\x1b[K[{'#' * filled}{'.' * (BAR - filled)}] {harmless(label[:room])}"
            )
            self._context.err.flush()

    def end_bar(self) -> None:
        if self._context.err.isatty():
            self._context.err.write("\r\x1b[K")
            self._context.err.flush()

    def lines(self, texts: Sequence[str], indent: str = "  ") -> None:
        for text in texts:
            self.print(f"{indent}{text}")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._context.err.fileno()).columns or 80
        except OSError:
            return 80

    def _typed(self, prompt: str) -> str:
        """One line. Ctrl-C ends the command at once, the end of input is a refusal."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self._context.err.write(prompt)
            self._context.err.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            self.tell("")
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        if not line:
            self.tell("")
            raise Refused(say("ask.wrong", self.lang), next=say("unchanged", self.lang))
        return line.strip()

    def _coloured(self, text: str, colour: str, stream: TextIO) -> str:
        if not stream.isatty() or self._context.environ.get("NO_COLOR"):
            return text
        return Painted(f"\x1b[{colour}m{harmless(text)}\x1b[0m")
