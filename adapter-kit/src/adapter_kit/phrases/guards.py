"""Phrases that name a content guard or its result: checks, scores, categories, codes."""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import BAD, CONTENT, GUARD_MODEL, TAINTED, VICE, WRITTEN

_CHECK: Final = (
    rf"(?:(?:{CONTENT}|safety|prompt|lyrics|nsfw|moderation|policy|copyright|(?:input|output|text|image|audio|"
    rf"video)(?= moderation)|ai)[ "
    rf"_-]){{1,2}}"
    r"(?:check|review|filter|screening|moderation|inspection)s?"
)

GUARDS: Final = (
    Phrase(
        "content",
        (
            rf"{GUARD_MODEL}\W{{1,3}}(?:\w+\W){{0,4}}?(?:unsafe|flagged|blocked|rejected|violat\w+|refused)(?! to)",
            f"(?:blocked|flagged|rejected|refused|caught|filtered|marked unsafe) by (?:the )?{GUARD_MODEL}",
            r"guardrails? (?:has |have |was |were )?(?:intervened|tripped|triggered|activated|violat\w+)",
            r"(?:classifier|moderation|moderator|verdict|rating|label)\W{1,3}(?:result\W{1,3})?unsafe",
        ),
        "https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-use-converse-api.html",
        real=("guardrail_intervened",),
        alike=(
            "Prompt blocked by LlamaGuard",
            "Llama Guard: unsafe S1",
            "ShieldGemma: the prompt is unsafe",
            "The guardrail intervened on the prompt",
            "classifier: unsafe (0.99)",
        ),
        innocent=(
            "Failed to load LlamaGuard weights",
            "LlamaGuard timed out",
            "guardrail service unavailable",
            "Llama Guard: safe",
            "Guardrail configuration not found",
            "Llama Guard refused to start",
        ),
    ),
    Phrase(
        "content",
        (
            (
                rf"{_CHECK} (?:has |have |was |were )?(?:failed|not passed|did ?n[o']t pass|rejected|triggered|"
                rf"blocked)(?=\W*$)"
            ),
            (
                rf"{_CHECK} (?:has )?(?:failed|did ?n[o']t pass|rejected|blocked)[,:(]? ?"
                rf"(?:(?:for|due to|because of|with|on|flagged)[: ])?.{{0,20}}?\b(?:{BAD}|{VICE}|prompt|lyrics)"
            ),
            (
                r"(?:nsfw|toxicity|moderation|safety|violence|hate|sexual|unsafe|profanity|harm(?:ful)?)"
                r"(?:[ _](?:content|moderation|classifier|filter))?:? (?:score|probability|severity|confidence|"
                r"[\d.]+)\b"
                r".{0,20}?(?:above|over|exceed\w*|too high|>=?|≥)(?! (?:ms|s)\b)…"
            ),
            rf"{CONTENT}[ _]safety\W{{1,3}}(?:severity|category|hate|violence|sexual|self)…",
            rf"categor(?:y|ies)\W{{1,5}}(?:\w+\W{{1,4}}){{0,2}}?{VICE}(?!\W{{1,4}}(?:false|0))",
            r"flagged\W{1,4}true",
            rf"flagged: (?:\w+, )?{VICE}",
        ),
        "https://platform.openai.com/docs/guides/moderation",
        alike=(
            "safety_check_failed",
            "Content safety check did not pass",
            "content_moderation_failed",
            "text_moderation_failed",
            "moderation check failed: hate/threatening",
            "content moderation: score 0.98 above threshold",
            "nsfw probability 0.99 exceeds threshold",
            "Azure content safety: severity 6 for violence",
            "Flagged categories: hate, violence",
            '{"flagged": true, "categories": ["illicit"]}',
            "Input flagged: harassment",
        ),
        innocent=(
            "nsfw score 0.02",
            '{"flagged": false, "categories": {"hate": false}}',
            "safety check failed: HTTPError 503",
            "safety check failed to run",
            "safety check failed with exit code 1",
            "moderation latency 900 ms above target",
        ),
    ),
    Phrase(
        "content",
        (
            r"(?:prompt|content|lyrics|nsfw)[ _](?:flagged|moderated|filtered|blocked)(?=\W*$)",
            r"(?:prompt|content|lyrics)[ _](?:blocked|rejected|refused|denied)[ _](?:by|due)[ _](?:\w+[ _]){0,2}policy",
            (
                r"^\W*(?:\w+: )?(?:unsafe|nsfw|inappropriate|explicit|harmful|prohibited)[ _](?:prompt|content|lyrics|"
                r"input)(?=\W*$|: )"
            ),
            r"content (?:filtered|moderation|restricted|policy)(?=\W*$|: (?:blocked|flagged|rejected|refused))",
            r"^\W*content[ _]management[ _]policy(?=\W*$)",
            r"(?:prompt|lyrics|content)[ _](?:is[ _])?(?:unsafe|rejected|not[ _]safe)(?=\W*$)",
            r"(?:blocked|rejected|refused|stopped)[ _]by[ _](?:content[ _])?policy(?=\W*$)",
            (
                r"safety (?:system|layer|filter|guard|settings)(?:: | (?:has )?)(?:blocked|rejected|refused|stopped|"
                r"flagged)"
            ),
            r"(?:policy|ip|copyright|content|safety)[ _-]violation(?=\W*$|: (?:prompt|lyrics|content|input))",
            r"moderation[_ ](?:error|status|result|outcome|verdict)\W{1,4}(?:flagged|blocked|rejected|refused)…",
            r"(?:safety|blocked|filtered)\W{1,3}HARM_CATEGORY_\w+",
            r"status(?:_code)?\W{1,4}102[67]",
            rf"^\W*(?:\w+: )?{WRITTEN} sensitive(?=\W*$)",
            rf"^\W*(?:api |error |upstream )?(?:\w+ ){{0,4}}(?:failed|\d+|error): {WRITTEN} sensitive(?=\W*$)",
            r"^\W*(?:unsafe|hate speech|nudity|profanity|explicit lyrics|sexual content|self-harm|csam)(?=\W*$)",
        ),
        "https://platform.minimaxi.com/document/error-code",
        real=("API returned status 1026: prompt sensitive",),
        alike=(
            "prompt_blocked",
            "content_blocked_by_policy",
            "NSFWContentError",
            "UnsafeContentError: prompt",
            "ContentModerationError: blocked",
            "content_management_policy",
            "ip_violation",
            "prompt_unsafe",
            "generation_blocked_by_policy",
            "Safety system: blocked",
            "moderation_error: flagged",
            "Moderation status: rejected",
            "safety: HARM_CATEGORY_HARASSMENT",
            "music generation failed: lyrics sensitive",
            "lyrics sensitive",
            "Hate speech",
            "Unsafe",
        ),
        innocent=(
            "ContentModerationError: 503 Service Unavailable",
            "unsafe_allow_html: true",
            "prompt_blocked_count: 0",
            "case sensitive",
            "status 102",
            "Unsafe redirect",
            "ip address violation",
        ),
    ),
    Phrase(
        "content",
        (
            rf"(?:system|filter|moderator|ai|we|openai|google) (?:has |have )?flagged (?:your|the|this) {WRITTEN}",
            rf"(?:detected|found) (?:\w+ )?(?:{TAINTED}|{VICE})(?: \w+)? in (?:the |your |this )?{WRITTEN}",
            rf"{VICE} (?:was |were )?(?:detected|found) in (?:the |your |this )?{WRITTEN}",
            r"copyright(?:ed)?(?: \w+)? (?:was |were |is )?(?:detected|found|matched|identified)",
            (
                r"(?:match(?:es|ed)?|(?:too )?similar to|resembl\w+|identical to|reproduc\w+|infring\w+)\b.{0,20}?"
                r"(?:existing|copyrighted|protected|known|commercial|published|released) "
                r"(?:songs?|works?|recordings?|tracks?|materials?|music|lyrics|compositions?)(?! (?:id|key|name))"
            ),
            (
                r"artists?(?:'s?)?(?: names?| references?| styles?| likeness)? (?:is |are )?(?:not (?:allowed|permitted"
                r"|supported)|prohibited|forbidden)"
            ),
            (
                r"(?:references?|refers?|mentions?|names?|imitates?|mimics?|impersonates?|imitat\w+|impersonat\w+)"
                r" (?:to |of )?"
                r"(?:an? |the |any )?(?:real|existing|specific|living|known|famous|named|particular) "
                r"(?:artists?|singers?|bands?|musicians?|people|person)"
            ),
            r"(?:mentions?|names?|references?) (?:an? |any )artist\b…",
            rf"{BAD} information (?:was )?(?:detected|found) in (?:the |your )?{WRITTEN}",
            r"protected by copyright",
            r"(?:deepfakes?|impersonation|voice cloning of \w+) (?:\w+ ){0,3}(?:not (?:allowed|permitted)|prohibited)",
        ),
        "field report: music services that refuse artists' names and songs that are there, in clients' code",
        alike=(
            "The system flagged your prompt",
            "Detected profanity in lyrics.",
            "Profanity found in text",
            "Copyright detected in lyrics",
            "Your lyrics appear to match an existing song.",
            "Artist references are not allowed in prompts",
            "The prompt references an existing artist",
            "The description mentions an artist, which is not allowed",
            "Sensitive information detected in prompt",
            "Lyrics are protected by copyright",
            "Deepfake or impersonation is not permitted",
        ),
        innocent=(
            "The system flagged the job for a retry",
            "the track matches an existing track id",
            "No copyright detected",
            "The worker mentions a known issue",
            "artist table is not allowed to be written",
        ),
    ),
    Phrase(
        "content",
        (
            (
                r"(?:words?|terms?|phrases?|language|topics?|materials?|themes?) (?:that|which) (?:is|are|we do) not "
                r"(?:allow(?:ed)?|permit(?:ted)?|acceptable|accept)"
            ),
            rf"(?:this|the|that) (?:topic|subject|theme) (?:is|are) (?:not (?:allowed|permitted)|{BAD})",
            rf"{WRITTEN}['\"]? (?:is |are |was |were )?not (?:allowed|permitted|appropriate|safe|suitable)(?=\W*$)",
            rf"found to be (?:\w+ )?{TAINTED}",
            (
                rf"(?:due to|because of|for|by|under|with) (?:the |our |its |their )?(?:{CONTENT}|safety) "
                "(?:restrictions?|limitations?|moderation)(?! (?:service|api|server|backend|time|being))"
            ),
            (
                r"(?:block|refus|reject|declin|filter|withh|flagg|unable|cannot|can't)\w*\b.{0,40}?(?:due to|"
                r"because of|for"
                rf"|as|because|contain\w*|involv\w*|depict\w*|promot\w*) (?:\w+ ){{0,3}}(?:{TAINTED}|{VICE})(?! "
                rf"service)"
            ),
            (
                r"(?:political|religious|extremist|adult|terrorist) (?:content|prompts?|lyrics|speech) (?:is|are) "
                r"(?:not|\w+ed|forbidden)"
            ),
            rf"(?:disallowed|prohibited|forbidden) (?:content|category|topic): \W?{VICE}",
            r"(?:breaks?|breaking|broke) (?:our|the|its|their) (?:\w+ )?(?:rules|guidelines|polic(?:y|ies)|terms)",
            rf"(?:prompts?|lyrics|content|text|songs?|audio) with (?:\w+ )?{VICE} (?:is|are) (?:not|\w+ed|forbidden)",
            r"(?:comply|compliant|in line) with (?:our |the )?content (?:guidelines|polic(?:y|ies)|rules)",
            r"violates? \w+'s (?:\w+ )?(?:terms|rules|polic(?:y|ies)|guidelines)",
            r"(?:contains?|depicts?|shows?|resembles?) an? (?:celebrity|public figure|minor|real person)",
            r"(?:csam|child sexual abuse|child safety)\b…",
        ),
        "field report: moderation in words of the services' own, as clients quote it",
        alike=(
            "The prompt contains words that are not permitted.",
            "This topic is not allowed",
            "Prompt not allowed",
            "The prompt is not appropriate",
            "Your lyrics were found to be inappropriate",
            "Unable to generate audio due to content restrictions",
            "Blocked due to hateful content",
            "Extremist content is forbidden",
            "Disallowed content: self-harm",
            "CSAM detected",
            "Generation was stopped because the prompt breaks our rules on hate speech",
            "Lyrics with slurs are rejected",
            "Please revise your prompt to comply with our content guidelines",
            "It violates Suno's terms",
            "Image rejected: contains a celebrity",
        ),
        innocent=(
            "Tokens that are not allowed in the grammar were sampled",
            "The generation is delayed for content moderation service maintenance",
            "the input is not safe to cast",
            "Blocked for a violation of the rate limit",
        ),
    ),
    Phrase(
        "content",
        (
            (
                r"model (?:has )?(?:refused|declined) to (?:generate|create|produce|make|sing|write) (?:this|that|"
                r"the|your"
                r"|such) (?:content|song|lyrics|music|prompt|audio)"
            ),
            (
                r"can(?:not|'t) (?:fulfil+|process|complete) this request as it (?:involves|contains|asks|violates|"
                r"depicts)…"
            ),
        ),
        "field report: language models before a music model",
        alike=(
            "The model declined to generate this content",
            "I cannot fulfill this request as it involves a real event",
        ),
        innocent=(
            "The model refused to generate this audio. CUDA out of memory.",
            "cannot complete this request as the queue is full",
        ),
        weak=True,
    ),
)
"""A guard's name, score, category or code."""
