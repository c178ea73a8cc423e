"""Times as both APIs write and read them."""

from datetime import UTC, datetime


def iso(at: float) -> str:
    """An epoch second in UTC to the microsecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> float | None:
    """An ISO 8601 time as epoch seconds, UTC unless it says otherwise; `ValueError` for anything else."""
    if not text:
        return None
    # A plus sign that was not escaped in a query arrives as a space.
    at = datetime.fromisoformat(text.replace(" ", "+"))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
