"""How long a start goes on while the brokers refuse this client.

Brokers that are just starting may not know their users and grants yet, so the first refusal proves nothing. No broker
that comes up later takes back one that lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from chassis.errors import CannotStart

REFUSED_LIMIT_S: Final = 60.0
"""Seconds for which the brokers may refuse this client, and nothing else happens, before a start is given up."""


class NotPermitted(CannotStart):
    """The brokers refuse the login, or deny a topic; one line that names the setting."""


class RefusalLimit:
    """Ends the retries of a start: its `note` is their `on_error`."""

    def __init__(self, tell: Callable[[str], None], refusals: type[Exception] = NotPermitted) -> None:
        """`tell` is called with the text of the first of the `refusals`, and again with the first after another error.

        Errors of other types are not limited.
        """
        self._tell = tell
        self._refusals = refusals
        self._since: float | None = None
        """When the first refusal was noted (monotonic seconds); None if the last error was another."""

    def note(self, error: BaseException) -> None:
        """Note an error. Raises it if it is a refusal, and there was nothing else for `REFUSED_LIMIT_S`."""
        if not isinstance(error, self._refusals):
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
            self._tell(str(error))
        elif time.monotonic() - self._since >= REFUSED_LIMIT_S:
            raise error
