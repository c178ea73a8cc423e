"""The type of a log event: a message text with a stable code, a level, its fields and the operator's action.

Each member of the workspace lists its events in a module `log_events`, as enumerations that are subclasses of LogEvent.
`docs/reference.py` makes docs/logs.md from them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, Protocol, Self

Level = Literal["debug", "info", "warning", "error", "critical"]

NOTHING: Final = "Nothing."


class LogEvent(StrEnum):
    """A log event. Its value is the text of its records; its code is its name in lower case.

    A member is a tuple of the text, the level, the names of its fields separated by spaces, and the operator's action.
    """

    code: str
    level: Level
    fields: tuple[str, ...]
    action: str
    """What an operator should do about it."""

    def __new__(cls, text: str, level: Level, fields: str, action: str = NOTHING) -> Self:
        """A member whose value is its text."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.level, member.fields, member.action = level, tuple(fields.split()), action
        return member

    def __init__(self, *_row: str) -> None:
        self.code = self.name.lower()


class Logger(Protocol):
    """A logger that accepts listed events only; any other text is a type error.

    The method must match the event's level, and the keywords its fields; tests/flow/test_log_events.py checks both.
    `exc_info` adds the traceback.
    """

    def debug(self, event: LogEvent, **fields: object) -> None:
        """Log at level debug."""

    def info(self, event: LogEvent, **fields: object) -> None:
        """Log at level info."""

    def warning(self, event: LogEvent, **fields: object) -> None:
        """Log at level warning."""

    def error(self, event: LogEvent, **fields: object) -> None:
        """Log at level error."""

    def exception(self, event: LogEvent, **fields: object) -> None:
        """Log at level error, with the traceback of the exception that is being handled."""

    def critical(self, event: LogEvent, **fields: object) -> None:
        """Log at level critical."""

    def bind(self, **fields: object) -> Logger:
        """A logger that adds `fields` to each record."""
