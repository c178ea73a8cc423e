"""The part of a file that a Range header selects, and the headers of files by content type."""

from __future__ import annotations

import pytest
from tests.builders import artifact

from gateway.api.artifacts import headers_of
from gateway.http.conditional import byte_range


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=3-99", (3, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_selects_a_part_or_the_whole(header: str | None, part: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=11-12", "bytes=-0"])
def test_a_range_outside_of_the_file_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="no byte"):
        byte_range(header, 10)


@pytest.mark.parametrize(
    ("kind", "served_as", "shown"),
    [
        ("audio/mpeg", "audio/mpeg", True),
        ("audio/mp4", "audio/mp4", True),
        ("video/mp4", "video/mp4", True),
        ("image/avif", "image/avif", True),
        ("audio/amr", "audio/amr", False),
        ("audio/x-caf", "audio/x-caf", False),
        ("image/tiff", "image/tiff", False),
        ("video/mp2t", "video/mp2t", False),
        ("application/octet-stream", "application/octet-stream", False),
        ("image/svg+xml", "application/octet-stream", False),
        ("image/SVG+XML", "application/octet-stream", False),
        ("audio/x-html", "application/octet-stream", False),
        ("text/html", "application/octet-stream", False),
        ("application/pdf", "application/octet-stream", False),
        ("audio/mpeg\r\nX-Evil: 1", "application/octet-stream", False),
        ("audio/mpeg; charset=x", "application/octet-stream", False),
        ("audio/mpeg\n", "application/octet-stream", False),
        ("", "application/octet-stream", False),
    ],
)
def test_only_safe_content_types_are_served_inline(kind: str, served_as: str, shown: bool) -> None:
    headers = headers_of(artifact("audio.x", content_type=kind))
    assert headers["Content-Type"] == served_as
    assert headers["Content-Disposition"] == f'{"inline" if shown else "attachment"}; filename="audio.x"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
