"""What the gatherer reads from the logs of the services."""

from __future__ import annotations

import json
from pathlib import Path

from chaos.evidence.gather import unexpected_errors, whole_lines
from chassis.observability.log_events import RuntimeEvent


def test_a_process_that_ended_by_itself_is_found_in_its_log(tmp_path: Path) -> None:
    ends = {"code": RuntimeEvent.UNEXPECTED_ERROR.code, "error": "ValueError: why not"}
    others = {"code": RuntimeEvent.READY.code, "error": f"it quotes {RuntimeEvent.UNEXPECTED_ERROR.code}"}
    written = "".join(f"{json.dumps(line)}\n" for line in (others, ends, others)).encode()
    file = tmp_path / "toy.log"
    file.write_bytes(written + json.dumps(ends).encode())
    assert list(unexpected_errors(whole_lines(file, 0))) == ["ValueError: why not"]
    assert whole_lines(file, len(written)) == []
