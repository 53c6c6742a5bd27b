"""What is wrong with the settings, by variable. No message quotes a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """A variable (or dotenv file) and the rule it breaks; never the value."""

    name: str
    rule: str

    def __str__(self) -> str:
        return f"{self.name}: {self.rule}"


class SettingsError(Exception):
    """The settings cannot be used. `problems` holds all of them, in order of the variables; one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
