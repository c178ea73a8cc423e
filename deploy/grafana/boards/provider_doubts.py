"""What is unclear about providers: lost answers to submits, second runs, outcomes that came late."""

from __future__ import annotations

from typing import Final

from boards.dashboard import Row
from boards.panels import GREY, NONE_IS_CALM, NONE_IS_GOOD, ORANGE, graph, stat
from boards.queries import Prom, grown

ONES: Final = 'provider=~"$provider"'
"""The providers that the dashboard's variable names."""
_RESOLVED: Final = grown(f"segue_ambiguous_resolved_total{{{ONES}}}", "5m")
_DUPLICATES: Final = grown(f"segue_duplicates_suspected_total{{{ONES}}}", "$__range")
_LATE: Final = grown(f"segue_attempts_learned_late_total{{{ONES}}}", "$__range")
_LATE_POSTS: Final = grown(f"segue_late_posts_total{{{ONES}}}", "$__range")

UNCLEAR: Final = Row(
    "What is unclear",
    (
        graph(
            "Ambiguous attempts, by provider",
            "Attempts whose answer to the submit was lost, until a listing, a callback, an operator or time resolves "
            "them.",
            Prom(
                expr=f'max by (provider) (segue_attempts{{{ONES}, state="ambiguous"}})',
                legend="{{provider}}",
            ),
            decimals=0,
            none="no attempt is ambiguous",
        ),
        graph(
            "Age of the oldest ambiguous attempt",
            "How long the oldest of them has been held.",
            Prom(
                expr=f"max by (provider) (segue_ambiguous_oldest_seconds{{{ONES}}})",
                legend="{{provider}}",
            ),
            unit="s",
        ),
        graph(
            "Resolved, and how",
            "Ambiguous attempts resolved within five minutes: by what, and what followed. ambiguous_submission: "
            "nobody knows, and an operator should look.",
            Prom(
                expr=f"sum by (rung, verdict) ({_RESOLVED}) > 0",
                legend="{{rung}}: {{verdict}}",
            ),
            stacked=True,
            decimals=0,
            none="none was resolved",
            calcs=("max",),
        ),
        stat(
            "Second runs suspected",
            "Runs found for an attempt that has another one, over the period shown. Each may be billed.",
            Prom(expr=f"sum({_DUPLICATES})", instant=True),
            steps=NONE_IS_GOOD,
            decimals=0,
            width=8,
        ),
        stat(
            "Outcomes learned late",
            "Attempts whose outcome was learned after their end, over the period shown. Succeeded ones are paid for, "
            "and their jobs went on without them.",
            Prom(
                expr=f"sum by (state) ({_LATE})",
                legend="{{state}}",
                instant=True,
            ),
            steps=((None, GREY), (1e-9, ORANGE)),
            decimals=0,
            named=True,
            none="none",
            width=8,
        ),
        stat(
            "Submits not sent in time",
            "Submits that were not sent, because the process was held up until its lease might be over; over the "
            "period shown.",
            Prom(expr=f"sum({_LATE_POSTS})", instant=True),
            steps=NONE_IS_CALM,
            decimals=0,
            width=8,
        ),
    ),
)
