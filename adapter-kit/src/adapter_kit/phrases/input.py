"""Phrases about invalid input: too long, missing, out of range.

A limit counts only if the text names an input of the caller: the prompt, the lyrics, a known parameter. "This field is
required" alone also occurs in errors of a faulty service.
"""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import BOUND, FIELD, PARAMETER, UNIT

INPUT_PHRASES: Final = (
    Phrase(
        "input",
        (
            rf"{FIELD}\b.{{0,60}}?{BOUND}.{{0,30}}?\d+[ -]?{UNIT}",
            rf"{FIELD} (?:must|should|has to|have to) be \d+ ?(?:-|\u2013|to|and) ?\d+ {UNIT}",
            rf"{FIELD}\b.{{0,20}}?\b\d+ ?{UNIT}.{{0,15}}?\b(?:max|limit|min)…",
            rf"{FIELD}\b.{{0,15}}? length (?:must|should|has to|is limited|can ?not|exceeds|may not)…\d+",
            rf"{FIELD} length \d+ (?:is )?(?:[>≥]|greater|longer|more|larger) ?(?:than )?\d+",
            rf"{FIELD}\b.{{0,30}}?\d+ {UNIT} or (?:less|fewer|more)",
            r"text length (?:exceeds|must|is)…\d+",
            rf"length of (?:the )?{FIELD} (?:exceeds|must|is too|has to)",
            rf"\d+[ -]?{UNIT} … {FIELD} … (?:allowed|limit|max\w*|most|exceed\w*)",
            rf"(?:max\w*|at most|up to|limit)\b.{{0,20}}?\d+ ?{UNIT}\b.{{0,30}}?\b{FIELD}",
            rf"(?:max\w*|min\w*) {FIELD} length",
            rf"max\w* (?:length )?(?:for|of) (?:the )?{FIELD} (?:is|of) \d+",
            rf"too many {UNIT} in (?:the )?{FIELD}",
            rf"{FIELD}['\"`]?:? (?:has |have )?too many {UNIT}",
            rf"(?:ensure this value has|string should have) at (?:most|least) \d+ {UNIT}",
            rf"text\b.{{0,20}}?\bexceed\w* .{{0,30}}?\d+ ?{UNIT}",
        ),
        "https://replicate.com/minimax/music-1.5/api/schema",
        real=(
            "Input validation error: lyrics must be at most 600 characters",
            "lyrics must be at most 5000 characters",
            "Lyrics must be at least 10 characters",
            "Prompt is too long for MiniMax-Music3: 5200 tokens vs a 3000-token limit.",
            "Prompt length (1251) exceeds maximum input length of 1024 tokens",
            "lyrics is too long (max 3000 chars)",
            "prompt must be at most 2000 Unicode code points",
        ),
        alike=(
            "prompt must be between 10 and 300 characters",
            "prompt: String should have at most 300 characters",
            "at most 600 characters are allowed in lyrics: the limit was exceeded",
            "- input.lyrics: String length must be less than or equal to 600",
            "The maximum length for prompt is 2000 characters",
            "lyrics must be 10-600 characters long",
            "Prompt has 350 characters, maximum is 300",
            "The length of lyrics exceeds 600",
            "lyrics\n  ensure this value has at most 600 characters (type=value_error.any_str.max_length)",
            "Lyrics length must not exceed 600",
            "lyrics length 700 > 600",
            "Prompt length 2400 is greater than 2000",
            "lyrics must be 600 characters or less",
            "text length exceeds 3000",
            "Maximum lyrics length is 3000",
            "too many characters in lyrics",
            "lyrics: too many lines",
            "text exceeds the limit of 2000 characters",
        ),
        innocent=(
            "prompt processing failed: worker crashed",
            "The prompt was processed in 300 ms",
            "generated 600 tokens of lyrics before the worker died",
            "Token indices sequence length is longer than the specified maximum sequence length (82 > 77)",
            "lyrics: 812 words written, 3 lines dropped by the renderer",
        ),
    ),
    Phrase(
        "input",
        (
            (
                rf"{FIELD}['\"`]?(?:'s)?:?(?: (?:text|length|size|string))?(?: (?:is|are|was|were|has))? ?too (?:long|"
                rf"short|large)"
            ),
            rf"too (?:long|short) (?:a )?{FIELD}",
            r"^\W*(?:\w+: ){0,3}text (?:is )?too (?:long|short)",
            "(?:prompt|lyrics|text|string|sequence|description|title|style|tags)_too_(?:long|short)",
            (
                rf"{FIELD}['\"`]?(?: (?:length|size|text))?(?: \([^)]{{0,20}}\))? exceed(?:s|ed)? "
                r"(?:the |its |our |this )?(?:\w+ )?"
                r"(?:max\w*|limit|allowed|permitted|model|context|character|token|length)…"
            ),
        ),
        "https://fal.ai/docs/documentation/model-apis/errors",
        real=("invalid params, lyrics is too short",),
        alike=(
            "Prompt is too long",
            "The lyrics are too long",
            "lyrics_too_long",
            "prompt length exceeds the limit",
            "Your text exceeds the maximum length",
            "too long a prompt",
            "lyrics: too long",
            "Text too long.",
        ),
        innocent=(
            "the prompt took too long to process",
            "Input pipeline too long",
            "queue is too long for this prompt",
            "prompt queue exceeds its limit",
            "upload too large for the proxy",
        ),
    ),
    Phrase(
        "input",
        (
            (
                rf"{FIELD}['\"`]?:? (?:field |parameter |property )?(?:is |are |was )?(?:a )?"
                r"(?:required|missing|empty|blank|mandatory)(?! (?:by|from)\b)"
            ),
            (
                rf"{FIELD}['\"`]?:? (?:field |parameter )?(?:can ?not|can't|must not|may not|should not) be (?:an? )?"
                "(?:empty|blank|null|none|missing)"
            ),
            rf"missing (?:required )?(?:field|parameter|input|property|argument|key)s?:? ['\"`]?{FIELD}",
            rf"(?:provide|specify|enter|supply) (?:an? |some |the )?{FIELD}",
        ),
        "https://replicate.com/docs/reference/http",
        real=(
            "invalid params, lyrics is required",
            "- input: prompt is required",
            "You cannot specify an empty prompt. Please provide a prompt.",
        ),
        alike=(
            "Prompt cannot be empty",
            "You must supply lyrics",
            "'lyrics' is a required property",
            "missing required field: lyrics",
        ),
        innocent=(
            "This field is required",
            "prompt_embeds is required",
            "the text encoder is missing",
            "missing key: weights",
            "prompt cache is empty",
            "prompt is required by the tokenizer, which has gone",
        ),
    ),
    Phrase(
        "input",
        (
            r"(?<!tool )inputs? (?:has |have )?(?:failed validation|validation (?:error|failed|failure|errors))",
            "invalid[ _](?:prompts?|lyrics|composition[ _]plan)",
            "(?:prompt|lyrics) (?:is|are|was|were) (?:invalid|not valid|malformed|unsupported)",
            r"invalid input(?: for)? ['\"`]?(?:prompt|lyrics|duration|style|seed)",
            "context_length_exceeded",
            r"(?:the|your) inputs? (?:was|were|is|are) (?:invalid|not valid)(?=[ .]*(?:\(E006\)|$))",
            r"\d+ validation errors? for \w*(?:input|request|params|arguments)",
        ),
        "https://github.com/replicate/cog/blob/main/docs/http.md",
        real=(
            (
                'Prediction input failed validation: {"detail":[{"loc":["body","input","steps"],"msg":"ensure '
                "this value is greater than or equal to "
                '3","type":"value_error.number.not_ge","ctx":{"limit_value":3}}]}'
            ),
            "The input was invalid. (E006)",
        ),
        alike=(
            "Input validation error",
            "Input validation failed",
            "Prompt is invalid",
            "Invalid prompt",
            "Invalid input for lyrics",
            "1 validation error for Input",
            "context_length_exceeded",
        ),
        innocent=(
            "Output validation error",
            "Tool input validation failed before any action",
            "invalid input tensor shape",
            "invalid prompt_embeds shape",
            "1 validation error for PredictionResponse: logs: none is not an allowed value",
            "Invalid input device",
            "the input was invalid UTF-8 from the upstream service",
        ),
    ),
    Phrase(
        "input",
        (
            *tuple(
                rf"{PARAMETER}['\"`]?(?:[ =:(]{{1,3}}(?:[\d.]+|'[^']{{1,30}}')\)?)?:? (?:value |parameter |field "
                rf")?(?:is |are |was "
                rf")?{wrong}"
                for wrong in (
                    "(?:out of|not (?:with)?in) (?:the )?(?:allowed |valid |supported )?(?:range|bounds)",
                    (
                        "(?:must|should) be (?:between|at (?:least|most)|one of|less|greater|lower|higher|smaller|"
                        "larger|in|divisible|positive|within)"
                    ),
                    "(?:must|should) be (?:an? (?:multiple|positive)|(?:<|>|≤|≥))…",
                    r"(?:must|should) be -?\d+",
                    "(?:must|should) be (?:an? )?(?:integer|number|whole number|string|boolean)",
                    "(?:must|should) not exceed",
                    "(?:has|have) to be (?:between|at|divisible|one of)",
                    "(?:not supported|not valid|invalid|unsupported)",
                    "can ?not (?:be (?:less|greater|more|negative)|exceed)",
                    "too (?:long|short|large|high|low)",
                    "exceeds? (?:the )?(?:max|limit|allowed)…",
                    "(?:greater|less|more|larger|smaller) than (?:the )?(?:max|min|limit|allowed|supported)…",
                )
            ),
            (
                rf"(?:invalid|unsupported|unknown) (?:value (?:\S+ )?for )?['\"`]?{PARAMETER}(?! (?:file|chunk|header|"
                rf"index|node))"
            ),
        ),
        "https://fal.ai/docs/documentation/model-apis/errors",
        real=(
            "resolution is not within the range of allowed options",
            "height and width have to be divisible by 8 but are 1023 and 768",
        ),
        alike=(
            "duration must be between 1 and 190",
            "`duration` must be -1",
            "seed must be an integer",
            "Unsupported output format: opus",
            "seconds_total is out of range",
            "cfg_scale out of bounds",
            "`height` must be divisible by 8",
            "music_length_ms should be at least 3000",
            "Invalid aspect ratio",
            "Unsupported language",
            "duration: 500 is greater than the maximum of 190",
            "seconds_total must be a multiple of 5",
            "duration must not exceed 190",
            "voice_id is not supported",
            "duration cannot be negative",
            "tempo is too high",
            "Language 'tlh' is not supported",
            "bitrate exceeds the maximum",
            "duration=500 is out of range [5, 190]",
            "duration (500) must be <= 190",
            "Invalid value 500 for duration",
        ),
        innocent=(
            "sequence length must be divisible by 8",
            "batch size must be at least 1",
            "tensor a (77) must match the size of tensor b (154)",
            "the ratio of failed workers is too high",
            "Invalid output format chunk",
            "language model failed to load",
        ),
    ),
    Phrase(
        "input",
        (
            r"parameters?\b.{0,60}?\bspecified in the request (?:is|are) not valid",
            r"invalid params? … (?:prompt|lyrics|text|audio|video|image|duration|voice|style)",
        ),
        "field report: the APIs of Volcengine and MiniMax in clients' code",
        real=(
            "The parameters `ratio` and `duration` specified in the request are not valid.",
            "content[1].video_url: invalid param: video duration 52838 ms, expected [2000, 15000] ms",
        ),
        innocent=("invalid params for the worker's RPC", "invalid parameter: cuda stream"),
    ),
)
"""The request has to be changed; another provider would refuse it too."""
