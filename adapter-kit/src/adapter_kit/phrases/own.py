"""Phrases about a service's own limits, outputs and parts.

A sentence with one of them is not about the caller's input, whatever it reports as too long or missing. A verdict on
the content of an output still counts, because the caller's input may be its cause.
"""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase

OWN_PHRASES: Final = (
    Phrase(
        "own",
        (
            (
                r"(?:job|task|queue|execution|prediction|run|runtime|request|response|session|processing|wait(?:ing)?"
                r"|build|output|generated|decoded|rendered|produced|retention)(?:'s)?[ _](?:duration|length|temperature"
                r"|time)"
            ),
            "(?:dns|host|hostname|name|address|symbol|dependency|conflict|clock|timer)[ _]resolution",
            r"(?:node|gpu|cpu|chip|core|device|die|hardware)s?[ _]temperature",
            r"(?:max\w*|limit|exceed\w*) .{0,40}?\d+ ?(?:minutes|hours|h|min)(?! (?:of|for) (?:audio|music))",
            r"language (?:models?|servers?|packs?)",
        ),
        "field report: limits of runners and of their queues, in logs of gateways",
        alike=(
            "Job duration exceeds maximum of 30 minutes",
            "Queue duration exceeds the limit",
            "Execution duration exceeds the limit of 600 seconds",
            "Request duration too long",
            "DNS resolution is invalid",
            "hostname resolution is not supported",
            "Node temperature exceeds the maximum",
            "Output duration is too short: 0 s",
            "Unsupported language model",
        ),
    ),
    Phrase(
        "own",
        (
            (
                r"(?:generated|produced|decoded|rendered|resulting|final|model(?:'s)?|output|synthesi[sz]ed)[ _]"
                r"(?:\w+ )?(?:audio|videos?|images?|music|tracks?|files?|clips?|samples?|waveform)(?![ "
                r"_](?:format|url))"
            ),
            (
                r"(?:model|worker|server|decoder|vocoder|pipeline) (?:\w+ ){0,2}(?:produced|generated|returned|made|"
                r"wrote|gave|provide)"
            ),
            r"registry|docker|digest|node|versions|pull",
            "ffmpeg|ffprobe|librosa|torchaudio|soundfile|sox|vocoder|vae|n_fft|codec error",
            (
                r"(?:fail\w*|unable|could ?n[o']t|errors?)\b.{0,20}?\b(?:encod|mux|transcod|upload|writ|stor|sav|"
                r"render)\w*"
            ),
            r"(?:encoder|decoder|muxer|tokenizer|resampler)s?",
            "(?:to|in|into|from) (?:the |an? )?(?:internal )?(?:storage|bucket|s3|disk|cdn|cache|database)|upload of",
        ),
        "field report: models whose own output or tools failed, in the logs of predictions",
        alike=(
            "the audio is too short: model produced 0.2 s",
            "Generated audio must be at least 1 second, got 0",
            "ffmpeg: Invalid audio format",
            "Failed to encode audio: sample rate 0 not supported",
            "encoder: unsupported sample rate 0",
            "Audio file is too large to upload to storage",
            "failed to fetch audio from internal cache",
            "failed to fetch image from registry: image too large",
        ),
    ),
    Phrase(
        "own",
        (
            (
                r"(?:checkpoint|state[ _]?dict|weights?|safetensors|embed(?:ding|der)?s?|lora|\w+\.(?:weight|bias|"
                r"onnx|pt|yaml))"
            ),
            (
                r"(?:prompt|lyrics|style|text|title|description) (?:template|cache|encoder|caching|queue|server|"
                r"service|table)s?"
            ),
            r"(?:config|settings|env)[._]\w+|truncated|workers?|in (?:the )?scheduler",
            r"validation errors? for (?!\w*(?:input|request|params|arguments)\b)\w+",
        ),
        "field report: models that were built or loaded wrongly, in the logs of predictions",
        alike=(
            "Missing key tags in checkpoint",
            "Missing keys in state dict: style.weight",
            "1 validation error for PredictionResponse",
            "Field required: config.model_path",
            "prompt template is missing",
            "Your input was truncated: at most 77 tokens of the prompt are read",
            "argument --seed is invalid for worker",
        ),
    ),
    Phrase(
        "own",
        (
            (
                r"(?:monthly|daily|hourly|weekly|yearly|organi[sz]ation|account|(?<!composition )plan|tier|team|"
                r"project|billing)\b…"
            ),
            (
                r"(?:limit|max\w*|up to|at most)\b.{0,40}?\b(?:per|a|each|this) (?:second|minute|hour|day|week|month|"
                r"user|account|key)"
            ),
            "concurren(?:t|cy)|parallel|retries|attempts",
        ),
        "https://replicate.com/docs/topics/predictions/rate-limits",
        alike=(
            "monthly limit of 1000 tokens for prompt caching exceeded",
            "At most 5000 characters of lyrics per minute",
            "Limit of 5 concurrent prompts reached",
        ),
    ),
)
"""In these sentences, "too long", "missing" or "invalid" is not about the caller's input."""
