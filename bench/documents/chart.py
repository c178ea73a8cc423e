"""The chart of a run: failover jobs per second, accepted requests per second, and latencies, as bars in SVG."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

from bench.rounds import Results

WIDTH: Final = 720
LABEL: Final = 230
BAR: Final = 18
STEP: Final = 26
# The style follows the reader's colour scheme also where the picture is embedded with <img>.
STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
rect { fill: #57606a }
rect.segue { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  rect { fill: #8b949e }
  rect.segue { fill: #4493f8 }
}
"""


def chart(results: Results) -> str:
    """The picture."""
    groups: dict[str, Mapping[str, float]] = {
        "Failover jobs per second": {
            name: statistics.median(each.jobs_per_s for each in found) for name, found in results.throughput.items()
        },
        "Accepted requests per second, one endpoint process": {
            name: statistics.median(each.per_s for each in found) for name, found in results.answers.items()
        },
    }
    if (found := results.latencies) is not None:
        groups["Latency of Segue, one job at a time, median, ms"] = {
            "Segue: POST to provider": found.to_provider[0],
            "Segue: refusal to next provider": found.to_next[0],
            "Segue: webhook to result": found.to_visible[0],
        }
    lines, y = [], 8
    for title, bars in groups.items():
        lines.append(f'<text class="title" x="8" y="{y + 14}">{escape(title)}</text>')
        y += STEP
        for name, value in bars.items():
            lines += _bar(name, value, value / max(bars.values()), y)
            y += STEP
        y += STEP // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">'
    return "\n".join([head, f"<style>{STYLE}</style>", *lines, "</svg>", ""])


def _bar(name: str, value: float, share: float, y: int) -> list[str]:
    width = max(1, round(share * (WIDTH - LABEL - 80)))
    kind = ' class="segue"' if name.startswith("Segue") else ""
    return [
        f'<text x="8" y="{y + 14}">{escape(name)}</text>',
        f'<rect{kind} x="{LABEL}" y="{y}" width="{width}" height="{BAR}" rx="3"/>',
        f'<text x="{LABEL + width + 6}" y="{y + 14}">{value:.{0 if value >= 100 else 1}f}</text>',
    ]
