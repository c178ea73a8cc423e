"""Phrases and error codes that name what was found in content.

Sources: the providers' documentation, the code of models that they run, and field reports of the services behind them,
whose messages the providers pass on.
"""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import BAD, CONTENT, GIVEN, VICE

FINDINGS: Final = (
    Phrase(
        "content",
        (
            (
                rf"(?:contain(?:s|ed|ing)?|includ(?:es?|ed)|has|have|had|with|using|uses?) (?:\w+ ){{0,3}}?{BAD}["
                rf" -](?:\w+ )?(?:{CONTENT}|materials?|words?|information|language|imagery|lyrics?|text|phrases?|terms?"
                "|topics?|elements?|keywords?)"
            ),
            (
                rf"{BAD} (?:{CONTENT}|words?|phrases?|keywords?|language|lyrics|prompts?) (?:\w+ ){{0,2}}(?:detected"
                "|found|not allowed|not permitted|prohibited|blocked|rejected|filtered)"
            ),
            f"{BAD} (?:{CONTENT}|words?|phrases?|terms?|language) in (?:the |your |this )?{GIVEN}",
            rf"contain(?:s|ed|ing)? (?:\w+ ){{0,2}}{VICE}",
            rf"(?:^|(?<=: ))(?:\w+ )?{BAD} (?:content|prompt)(?=\W*$)",
            "content that is not (?:allowed|permitted|acceptable|suitable)",
            (
                rf"(?:this|the|your) (?:content|prompt|lyrics) (?:is|are) (?:not (?:allowed|permitted|acceptable)|"
                rf"{BAD})(?! (?:to|until|for|in|by|while)\b)"
            ),
        ),
        "field report: the APIs of Volcengine and Alibaba, and Seedance behind another's API, in clients' code",
        real=(
            "The request failed because the input text may contain sensitive information.",
            "Input data may contain inappropriate content.",
            "Output data may contain inappropriate content.",
            "<400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content.",
            "Output audio has sensitive content.",
            "Lyrics contain sensitive words",
            "This prompt contains sensitive words that violate Google's Responsible AI practices.",
            "Lyrics contained copyrighted material",
        ),
        alike=(
            "Explicit lyrics are not allowed",
            "Profane language detected",
            "The prompt contains banned words: foo",
            "Prompt rejected: unsafe content",
            "This content is not allowed",
            "Forbidden content in prompt",
            "Text contains profanity",
            "Your request includes content that is not permitted",
        ),
        innocent=(
            (
                "The model did not generate the expected output for this prompt. This may occur for several "
                "reasons, including unsafe content, a prompt that is too vague, or a temporary fault."
            ),
            "The response headers contain sensitive information and were not forwarded",
            "unsafe content type blocked",
            "the archive contains protected files",
            "this content is not available",
        ),
    ),
    Phrase(
        "content",
        (
            "bad[_ ]prompt(?![_ ]?embed)",
            "bad_composition_plan",
            "content_against_policy",
            r"(?:contain|mention|includ|nam)(?:s|ed?)? (?:an? )?(?:\w+ )?artist(?:'s)? names?",
            (
                r"(?:artist|band|song|brand|celebrity) names? (?:\w+ ){0,3}(?:detected|not allowed|not permitted"
                "|prohibited)"
            ),
            "copyrighted (?:songs?|works?|materials?|content|lyrics|music|characters?|recordings?)",
            (
                "(?:style|voice|manner) of (?:an? |the )?(?:named|real|known|specific|living|famous|particular)"
                " (?:artist|singer|person|musician|band|performer)s?"
            ),
            (
                r"(?:remove|avoid|replace|don't use|do not use) (?:\w+ ){0,2}artist names?|name of (?:an? )?(?:real |"
                r"known )?artist"
            ),
        ),
        "https://elevenlabs.io/docs/cookbooks/music/quickstart",
        real=(
            "bad_prompt",
            "bad_composition_plan: copyrighted style reference",
            "Tags contained artist name: Coldplay",
            "Song Description contained artist name",
        ),
        alike=(
            "content_against_policy",
            "Your prompt contains copyrighted lyrics",
            "Music could not be generated: the prompt references a copyrighted song",
            "Please remove artist names from your prompt",
            "The generated music was too similar to copyrighted works and has been withheld",
            "Artist names are not allowed",
            "We cannot generate music in the style of a named artist",
        ),
        innocent=(
            "bad_prompt_embeds: wrong shape",
            "artist names are loaded from the cache",
            "bad gateway",
        ),
    ),
    Phrase(
        "content",
        (
            "content[_ ]policy[_ ]violation",
            "…ContentPolicy(?:Violation|Error)…",
            "(?:safety|usage|policy|tos)[_ ]violation",
            r"PUBLIC_ERROR_UNSAFE_\w+",
            "ModerationBlocked",
            "partner_validation_failed",
            r"(?:\w+_)?rai[_ ](?:media[_ ])?filtered",
            r"filtered by (?:\w+ )?rai",
            "recitation check failed",
            (
                r"content[_ ]filter(?:ed)?(?=\W*$|[_ ](?:triggered|violation|blocked|hit|by\b)|: (?:\w+ "
                r"){0,6}(?:blocked|flagged|rejected|hit|filtered|removed))"
            ),
            "sensitive[_ ]?(?:word|content)[_ ]?(?:error|detected)",
            "…SensitiveContentDetected",
            "RiskDetection|CopyrightViolationDetected|ContentRestricted|ResponsibleAIPolicyViolation",
            "data[_ ]?inspection[_ ]?failed",
            "…DataInspectionFailed",
            "new[_ ]sensitive",
            "(?:input|output)(?: (?:text|image|audio|video))? sensitive",
            r"safety\.(?:input|output)",
            "prohibited_content|image_safety|content_blocked|invalid_prompts|safety_blocked",
            (
                r"(?:finish|block|stop)[_ ]?reason\W{1,6}(?:\w+ )?(?:SAFETY|RECITATION|PROHIBITED_CONTENT|BLOCKLIST|"
                r"SPII|IMAGE_SAFETY)"
            ),
            r"HARM_CATEGORY_\w+\W{1,3}(?:\w+\W)?blocked",
        ),
        "field report: error codes of MiniMax, Volcengine, Alibaba, Google, OpenAI and Runway, as clients quote them",
        real=(
            "upstream 400: content_policy_violation (trigger: gore)",
            "input new_sensitive (1026)",
            "API Error: 500 input new_sensitive (1026). This is a server-side issue, usually temporary",
            "input new_sensitive, input text sensitive",
            "InputTextSensitiveContentDetected",
            "OutputVideoSensitiveContentDetected.PolicyViolation",
            "SENSITIVE_WORD_ERROR",
            "data_inspection_failed",
            "SAFETY.INPUT.TEXT",
            "CopyrightViolationDetected",
            "DataInspectionFailed",
            "PUBLIC_ERROR_UNSAFE_GENERATION",
            "partner_validation_failed",
        ),
        alike=(
            "ContentPolicyError",
            "ModerationBlocked",
            "gemini_rai_filtered: sexual",
            "All generated samples were filtered by RAI",
            "recitation check failed: output blocked",
            "error: new sensitive (1026)",
            "output new_sensitive, status_code 1027",
            "finishReason: RECITATION",
            "Gemini blocked the prompt, blockReason=PROHIBITED_CONTENT",
            "content_filter",
            "ContentPolicyViolationError: Your request was rejected",
            "safety_violation",
            "HARM_CATEGORY_SEXUALLY_EXPLICIT blocked",
        ),
        innocent=(
            "content filter failed to initialise",
            "content_filter_service: connection reset",
            "finish_reason: length",
            "case-sensitive input",
            "ModerationUnavailable",
            "RAID array filtered by rail",
        ),
    ),
    Phrase(
        "content",
        (
            (
                "(?:sexual|nude|nudity|adult|harmful|hateful|violence|gore|hate speech|self-harm|profanity"
                r"|celebrit(?:y|ies)|public figures?|real (?:person|people)|minors|children|trademark\w*|slurs?) …"
                " (?:detected|not (?:allowed|permitted|supported)|prohibited|forbidden|restricted|(?:is|are) blocked)"
            ),
            "(?:input|image|video|photo|prompt)s? .{0,20}?contains? (?:a |an )?real (?:person|people)",
            r"likeness(?:es)? of (?:a |any )?(?:\w+ )?(?:real|public|famous|living|person|people|celebrit)…",
            "real (?:person|people)(?:'s)? likeness(?:es)?|(?:person|people)'s likeness",
            "intellectual property (?:concerns?|rights|violations?|restrictions?|issues?|infringement)",
            (
                "can(?:not|'t) (?:assist|help|comply)(?: (?:you )?with)? (?:that|this|generating|creating)"
                "(?!.*\\b(?:moment|now|later|time|minutes?|currently)\\b)"
            ),
            r"(?:do not|don't|does not) (?:allow|permit|accept) (?:\w+ ){0,2}(?:prompts?|content|lyrics)",
            r"can(?:not|'t) (?:create|generate|make|produce|write)\b.{0,60}?\b(?:safety|polic(?:y|ies)|guidelines)",
        ),
        "field report: Seedance behind another's API, in the tests of its clients",
        real=(
            (
                "The images or videos provided may contain likenesses of real people or other private information "
                "that cannot be processed."
            ),
            "The input images may contain likeness of real people.",
        ),
        alike=(
            "The prompt resembles a real person's likeness",
            "intellectual property concern",
            "Hate speech detected in the lyrics",
            "Depictions of real people are not permitted",
            "The input image may contain real person",
            "Profanity is not allowed in the prompt",
            "I can't help with generating this song",
            "We do not allow prompts about real people",
            "Sorry, I can't create music about that topic due to safety guidelines",
        ),
        innocent=(
            "minor version mismatch: 12.1 is not supported by the driver",
            "child process not supported on this platform",
            "an adult-sized worker is required",
            "the likeness of the two tensors is low",
        ),
    ),
    Phrase(
        "content",
        (
            (
                r"^\W*(?:\w+: ){0,3}(?:your|the|this) (?:input|prompt|lyrics|text) (?:was|were|is|has been) (?:rejected"
                "|refused|declined|blocked|not accepted|filtered)"
            ),
            r"^\W*(?:\w+: ){0,3}(?:your |the |this )?content (?:was|has been) (?:rejected|refused|declined|blocked)",
            (
                r"model (?:has )?(?:refused|declined) (?:to (?:\w+ ){1,2})?(?:the |your |this )?"
                "(?:prompts?|lyrics|request|input)(?! (?:connection|stream))"
            ),
            "rejected by (?:google|openai|bytedance|minimax|suno|udio)",
        ),
        "field report: moderation that names no reason, in the logs of a gateway",
        real=("Your input was rejected. Please try again or with a different input.",),
        alike=(
            "The prompt was blocked.",
            "Content was blocked",
            "The model refused the prompt",
            "The model declined to process your request",
            "Rejected by Google",
        ),
        innocent=(
            "Your input was rejected because the queue is full",
            "The prompt was blocked. The moderation service is unavailable.",
            "the input pipe was blocked",
            "The model refused the request: connection reset by peer. The worker crashed.",
            "the model refused the input connection",
            "Connection rejected by Google: too many requests",
        ),
        weak=True,
    ),
)
"""The property of the content for which it was refused."""
