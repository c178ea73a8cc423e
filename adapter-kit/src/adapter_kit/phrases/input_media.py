"""Phrases about files that the caller provided: too long, in the wrong format, or impossible to download."""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import MEDIA, MEDIUM

INPUT_MEDIA_PHRASES: Final = (
    Phrase(
        "input",
        (
            rf"{MEDIA} (?:duration |length |size )?(?:is |are |was |were )?too (?:long|short|large|small|big)",
            (
                rf"{MEDIA}(?:_urls?)?(?: \w+)? (?:must|should|has to|have to) be "
                "(?:between|at (?:least|most)|shorter|longer)…"
            ),
            rf"{MEDIA} (?:duration |length |size |dimensions )?exceeds? (?:the )?(?:max|limit|allowed|\d)…",
            (
                rf"(?:invalid|unsupported|corrupt(?:ed)?) (?:reference |input |source )?{MEDIUM}"
                r"(?: (?:file|format|type|codec))?(?=\W*$|:)"
            ),
            (
                r"(?:fail(?:ed|ure)?|unable|could ?n[o']t|can ?n[o']t) (?:to )?"
                r"(?:download|access|fetch|retrieve|open)\b.{0,20}?\b"
                rf"(?:{MEDIUM}(?= (?:from|at|url|link))|(?:provided|given|input|supplied) (?:\w+ )?(?:url|link|file))"
            ),
            r"(?:check|ensure|make sure|verify) (?:if|that|whether) the url is (?:publicly )?(?:accessible|valid)",
            rf"invalid {MEDIUM}[ _]ur[il]",
        ),
        "field report: Seedance, Kling and Suno behind gateways, in the tests of their clients",
        real=(
            "Each reference video must be between 2 and 30 seconds",
            "reference_video_urls duration must be between 1 and 15 seconds",
            "task failed: [400] audio too long",
            "Failed to download image from the provided URL.",
            "Unable to access the provided media URL",
            "Failed to download the file. Please check if the URL is accessible and try again.",
        ),
        alike=(
            "Input video is too short",
            "The input image dimensions exceed the limit of 4096",
            "Unsupported audio format: expected wav or mp3",
            "Invalid reference audio",
            "Invalid image url",
        ),
        innocent=(
            "Failed to download model weights from https://weights.example/x",
            "could not fetch the checkpoint",
            "audio pipeline too long in the queue",
            "invalid audio device",
            "the output video must be uploaded first",
            "failed to access the video encoder",
        ),
    ),
)
"""The file has to be changed; another provider would refuse it too."""
