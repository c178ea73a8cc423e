"""Times in the formats of both APIs."""

from datetime import UTC, datetime


def iso(at: float) -> str:
    """The ISO 8601 form of an epoch second, in UTC with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> float | None:
    """An ISO 8601 time as epoch seconds, in UTC unless it has an offset. Raises ValueError for anything else."""
    if not text:
        return None
    # An unescaped plus sign in a query arrives as a space.
    at = datetime.fromisoformat(text.replace(" ", "+"))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
