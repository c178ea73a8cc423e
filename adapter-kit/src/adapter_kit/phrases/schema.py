"""Phrases about input that a schema or a model's own check rejects: missing, of the wrong type, not a valid choice.

The messages of validators name no field. They count only if no part of the text shows that something other than the
caller's input was validated.
"""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import FIELD, MEDIUM, PARAMETER, UNIT, WRITTEN

_GIVEN_MEDIUM: Final = rf"(?:reference|input|source|uploaded|provided|supplied|given)[ _](?:{MEDIUM}|voice|file)"
_LINK: Final = rf"(?:{MEDIUM}[ _](?:url|link)|your {MEDIUM}(?: file)?)"
_MODAL: Final = "(?:must|should|has to|have to|needs? to|can ?not|can't|may not)"

SCHEMA_PHRASES: Final = (
    Phrase(
        "input",
        (
            (
                rf"^\W*(?:[\w ]{{1,30}}: )?(?:no|empty|missing|blank)[ _]{WRITTEN}(?:[ _](?:was|were))?(?:[ "
                rf"_](?:provided|given|"
                rf"supplied|specified|set))?(?=\W*$)"
            ),
            (
                rf"{WRITTEN}['\"`]?[ _](?:was |were |is |are )?(?:not (?:provided|given|supplied|specified)|missing|"
                rf"required|empty|null|none)(?=\W*$)"
            ),
            (
                rf"{FIELD}['\"`]?(?: (?:or|and|/) ['\"`]?\w+['\"`]?)? {_MODAL} be "
                r"(?:provided|given|specified|supplied|present|set\b|(?:an? )?non-?empty)"
            ),
            rf"{FIELD}: (?:this|the) (?:field|value) (?:is required|(?:may|must|can) ?not be (?:blank|null|empty))",
            rf"{FIELD}: (?:this )?field required",
            rf"^\W*(?:\w+: )?(?:the )?(?:model|endpoint|api) requires (?:an? )?{WRITTEN}(?=\W*$)",
            rf"{FIELD}: ensure this (?:field|value) (?:has|is)…\d",
        ),
        "https://www.django-rest-framework.org/api-guide/fields/",
        real=("lyrics: This field may not be blank.",),
        alike=(
            "No prompt provided",
            "Empty prompt",
            "missing_prompt",
            "No lyrics were provided",
            "Lyrics not provided",
            "Prompt must be a non-empty string",
            "`prompt` or `lyrics` must be provided",
            "prompt: This field is required.",
            "lyrics: Ensure this field has no more than 600 characters.",
            "prompt: Field required",
            "The model requires lyrics",
        ),
        innocent=(
            "No result provided by the worker",
            "no prompt template was set by the server",
            "This field is required",
            "s3_bucket: this field is required",
        ),
    ),
    Phrase(
        "input",
        (
            r"input should be (?:less|greater) than(?: or equal to)? -?[\d.]+",
            r"ensure this value is (?:less|greater) than(?: or equal to)? -?[\d.]+",
            r"input should be (?:an? (?:valid (?:\w+)|multiple of \d+)|'[^']{1,40}'|-?\d+(?:,| or))…",
            r"(?:string|list|tuple|set|value) should (?:have at (?:most|least) \d+|match pattern)…",
            r"extra inputs are not permitted",
            r"^\W*(?:[\w.-]+: )*field required(?=\W*$|\W*\[type=missing| \(type=value_error)",
            r"value is not a valid (?:integer|float|enumeration|string|boolean|number|list|dict|url)…",
            r"none is not an allowed value|unexpected value; permitted",
            r"['\"][^'\"\n]{1,40}['\"] is not one of \[",
            r"value error, \w+ (?:must|should|can ?not)…",
            r"^\W*(?:[\w.]+: )*-?[\d.]+ is (?:greater|less) than the (?:maximum|minimum) of -?[\d.]+",
        ),
        "https://docs.pydantic.dev/latest/errors/validation_errors/",
        real=(
            "Input should be less than or equal to 190",
            "Input should be 'mp3', 'wav' or 'pcm'",
            "ensure this value is less than or equal to 190",
            "Field required",
            "Extra inputs are not permitted",
            "String should match pattern '^[a-z]+$'",
            "Input should be a valid integer, unable to parse string as an integer",
            "value is not a valid integer",
        ),
        alike=(
            "audio_setting.bitrate: Input should be 32000, 64000, 128000 or 256000",
            "Input should be a multiple of 5",
            "List should have at most 3 items after validation, not 5",
            "prompt: none is not an allowed value",
            "'ogg' is not one of ['mp3', 'wav']",
            "1 validation error for MusicInput\nduration\n  Input should be less than or equal to 190",
            "Value error, seconds must be whole",
            "jsonschema.exceptions.ValidationError: 500 is greater than the maximum of 190",
        ),
        innocent=(
            "1 validation error for Output\naudio\n  Field required",
            "2 validation errors for WorkerConfig\nregion\n  Input should be 'eu' or 'us'",
            "Field required: config.model_path",
            "Field required. The worker crashed.",
            "Input should be loaded first",
        ),
        weak=True,
    ),
    Phrase(
        "input",
        (
            (
                rf"(?:max\w*|min\w*|longest|shortest)(?: allowed| supported)? {PARAMETER}(?: allowed| supported)?(?: "
                rf"is|:|=| of) ?[\d.]+(?! ?(?:min|hour|h\b))…"
            ),
            rf"{PARAMETER}['\"`]?:? (?:value )?(?:['\"\d]\S* )?(?:is |was )?not (?:allowed|in|one of|among)\b…",
            rf"{PARAMETER}: input should be…",
            rf"{PARAMETER}['\"`]? (?:must|should) be (?:an? )?(?:int|float|str|list|whole|valid)…",
            rf"requested {PARAMETER}\b.{{0,20}}?(?:not (?:supported|allowed)|exceed|too)…",
            (
                rf"(?:invalid|bad|illegal|wrong|unsupported)[ _]?(?:param(?:eter)?|argument|value|option)s?(?: "
                rf"for)?\W{{1,3}}(?:{FIELD}|{PARAMETER})"
            ),
            r"(?:format|codec) (?:must|should) be (?:one of|either|(?:mp3|wav|flac|ogg|opus|pcm|aac)\b)…",
            r"(?:unsupported|invalid|unknown) (?:\w+ )?(?:format|codec):? ['\"]?(?:mp3|wav|flac|ogg|opus|pcm|aac)",
            rf"expect(?:ed|s) {PARAMETER} (?:between|at|to be|in|less|<|>)…",
            rf"{PARAMETER} exceeds? \d+",
            rf"expected an? (?:number|integer|int|float|string|bool\w*) for {PARAMETER}",
            r"is not a supported (?:\w+ )?(?:format|codec|language|voice|(?:sample|aspect) \w+)",
        ),
        "https://replicate.com/minimax/music-1.5/api/schema",
        alike=(
            "Maximum duration is 190 seconds",
            "bitrate 64 not in allowed values",
            "bitrate not allowed: 64",
            "output_format 'ogg' is not one of ['mp3', 'wav']",
            "duration: Input should be less than or equal to 190",
            "TypeError: duration must be int",
            "Requested duration of 500 s is not supported",
            "InvalidParameter: prompt",
            "Bad value for duration",
            "format must be one of mp3, wav, pcm",
            "duration exceeds 190",
            "mp3 is not a supported output format",
            "Expected a number for duration",
            "Unsupported format ogg",
            "Expected duration between 5 and 190, got 500",
        ),
        innocent=(
            "Maximum run duration is 30 minutes",
            "Maximum duration of job reached",
            "language model is not in the registry",
            "run exceeded the maximum duration of 30 minutes",
            "invalid parameter: cuda stream",
        ),
    ),
    Phrase(
        "input",
        (
            (
                rf"{WRITTEN} (?:contains?|includes?|has|have|uses?) (?:an? )?(?:\w+ )?(?:unsupported|invalid|unknown|"
                rf"illegal|unrecogni[sz]ed) (?:\w+ )?(?:tags?|{UNIT}|sections?|structures?|markup|languages?|emojis?)"
            ),
            r"(?:invalid|unsupported|unknown) (?:structure|section|lyrics) tags?",
            rf"only (?:\w+(?:,| and| or)? ){{1,4}}{WRITTEN} (?:is|are) (?:supported|allowed|accepted)",
            rf"{WRITTEN} (?:language|format|length) (?:is |are )?(?:not supported|unsupported|invalid|not valid)",
            rf"{WRITTEN} (?:length |limit )?exceeded(?=\W*$)",
            rf"(?:unsupported|invalid|illegal) (?:{UNIT}|tags?) in (?:the |your )?{WRITTEN}",
            r"(?:unknown|invalid|unsupported) (?:style|genre|mood)(?=\W*$|: |\W['\"])",
            r"(?:style|genre|mood)['\"`]? (?:must|should) be (?:one|any) of",
            rf"required (?:property|field|parameter|key) ['\"`]?{WRITTEN}",
            rf"{WRITTEN} (?:is not|must be|should be|has to be) (?:an? )?(?:str|string|text)\b…",
            r"(?:composition[ _]plan|lyrics) has too many (?:sections|verses|tags)",
            (
                rf"(?:prompt|lyrics) {_MODAL} (?:be (?:in (?:english|chinese)|a(?: valid)? string)|start|begin|"
                rf"include|contain|have)\b…"
            ),
            rf"{FIELD} should be a valid string",
            rf"{WRITTEN}: (?:max\w*|min\w*) length",
            rf"{WRITTEN}\.?(?:length|len) (?:must|should) be ?[<>=≤≥]…",
            rf"tags {_MODAL} contain",
            (
                rf"(?:{UNIT}|length) limit (?:was |is |has been )?(?:exceeded|reached)(?: for| in| by)? (?:the |your "
                rf")?{FIELD}"
            ),
            rf"{FIELD} (?:is |was )?over the (?:\w+ )?limit",
            rf"{FIELD} .{{0,20}}?\d+ {UNIT}\b.{{0,20}}?\b(?:limit|at most|max)…",
            rf"text (?:is |was )?(?:longer|shorter|more|less) than \d+ {UNIT}",
            rf"(?:shorten|reduce the (?:length|size) of) (?:the |your )?{FIELD}",
            rf"{WRITTEN}[ _]too[ _](?:long|short)",
        ),
        "https://replicate.com/minimax/music-1.5/api/schema",
        alike=(
            "Lyrics contain unsupported structure tags",
            "Invalid structure tag [foo] in the text",
            "only English lyrics are supported",
            "Lyrics language is not supported",
            "prompt is not a string",
            "prompt_length_exceeded",
            "Unsupported characters in lyrics",
            "Unknown style: foo",
            "style must be one of pop, rock",
            "required property 'prompt' not found",
            "composition_plan has too many sections",
            "Lyrics must start with a [verse] tag",
            "Lyrics should be a valid string",
            "Lyrics: maximum length is 600",
            "lyrics.length must be <= 600",
            "tags must contain at least one tag",
            "Character limit exceeded for lyrics",
            "prompt over the character limit",
            "Your prompt has 2400 characters, the limit is 2000",
            "Prompt is 2400 characters long, but may be at most 2000",
            "Text is longer than 3000 characters",
            "Please shorten your lyrics",
            "PromptTooLongError",
        ),
        innocent=(
            "monthly character limit reached for prompt caching",
            "only English tokenizer weights are available",
            "prompt must be processed before the worker exits",
            "the context has unknown tags from the tokenizer",
            "Unknown style token id",
            "Prompt exceeded its time budget",
            "predict() missing 1 required positional argument: 'prompt'",
        ),
    ),
    Phrase(
        "input",
        (
            (
                r"voice(?:[ _-]?id)?(?: (?!model|encoder|weights|file|service|server|worker)['\"]?[\w-]+['\"]?)?[ "
                r"_](?:was |is )?"
                r"(?:not[ _]found|not available|unknown|does(?: not|n't) exist)"
            ),
            r"(?:unknown|no such) voice(?! (?:model|encoder|service))",
            (
                rf"(?:{_GIVEN_MEDIUM}(?:[ _]url)?|{_LINK})(?: file| clip)?:? (?:was |is |are |could |can ?)(?:not "
                rf"(?:found|"
                rf"reachable|a valid \w+"
                r"|accessible|valid|readable|supported)|not be (?:decoded|read|downloaded|opened|found|fetched)|"
                r"corrupt\w*"
                r"|empty|silent|invalid|unreadable|unreachable)"
            ),
            rf"uploaded file is not (?:an? )?(?:valid )?{MEDIUM}",
            rf"{MEDIUM} input (?:is )?too (?:long|short|large)",
            r"(?:voice[_ ]id|reference[_ ]audio(?:_url)?) (?:is |was )?(?:required|missing)(?=\W*$)",
            rf"{_GIVEN_MEDIUM}: (?:unsupported|invalid|corrupt)…",
            rf"{_GIVEN_MEDIUM} (?:is |was )?(?:longer|shorter|larger|smaller) than \d+",
            (
                r"(?:fail(?:ed|ure)?|unable|could ?n[o']t|can ?n[o']t) (?:to )?(?:download|access|fetch|retrieve|"
                r"open|decode|read|load) "
                rf"(?:the |your )?{_GIVEN_MEDIUM}"
            ),
        ),
        "field report: voices and references that are not there, in clients' code",
        alike=(
            "Voice abc not found",
            "voice_not_found",
            "Voice ID xyz does not exist",
            "unknown voice: foo",
            "The reference audio was not found",
            "Reference audio could not be decoded",
            "Reference audio is longer than 60 seconds",
            "Image URL could not be fetched",
            "input_audio: unsupported format",
            "uploaded file is not audio",
            "Audio input too long: 400 s > 240 s",
            "voice_id is required",
            "Your audio file is corrupted",
            "Could not download reference audio",
        ),
        innocent=(
            "voice encoder not found",
            "the voice model is not available",
            "Could not decode audio from the model",
            "could not read the input file list of the worker",
        ),
    ),
)
"""Messages of a validator, or of a model that validates its input."""
