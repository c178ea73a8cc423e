"""Phrases that report a verdict: content was flagged, refused or moderated.

Sources: the providers' documentation, the code of models that they run, and field reports of the services behind them,
whose messages the providers pass on.
"""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import BAD, CONTENT, GIVEN, GUARD, POLICY, REFUSED, TAINTED, VICE

VERDICTS: Final = (
    Phrase(
        "content",
        ("E005",),
        "field report: failed predictions, where the code stands in no document",
        real=(
            "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
            "ModelError: The input or output was flagged as sensitive (E005)",
        ),
        innocent=(
            "Error code E0051: disk quota",
            "request 9E005 failed",
            "CUDA error at E10005",
        ),
    ),
    Phrase(
        "content",
        (
            r"nsfw(?=\W*$)",
            "nsfw … (?:detected|(?<!not )found|flagged|blocked|rejected|filtered|prohibited|refused)",
            "nsfw … not (?:allowed|permitted|supported)",
            r"(?:contain(?:s|ed|ing)?|potential(?:ly)?|possibl[ey]|detected|has|is|was|as) (?:\w+ ){0,2}nsfw",
        ),
        "https://github.com/replicate/cog-stable-diffusion/pull/24",
        real=(
            "NSFW content detected. Try running it again, or try a different prompt.",
            "NSFW content detected in all outputs, please try a different prompt",
            "Prediction failed: NSFW content detected. Try running it again, or try a different prompt.",
            "All generated images contained NSFW content. Try running it again with a different prompt.",
            "Generated image contained NSFW content. Try running it again with a different prompt.",
            "Potential NSFW content was detected in one or more images. A black image will be returned instead.",
        ),
        alike=(
            "NSFW prompts are not allowed",
            "NSFW",
        ),
        innocent=(
            "No NSFW content detected",
            "NSFW content detected in 1 outputs, showing the rest 3 images...",
            "nsfw_checker.onnx could not be found",
            "Failed to run NSFW classifier: file not found",
            "NSFW detector crashed",
            "Loading the NSFW model",
        ),
    ),
    Phrase(
        "content",
        (
            (
                rf"(?:flagged|detected|marked|identified|considered|classified|deemed) (?:as |to be )?(?:\w+ "
                rf")?{TAINTED}(?! (?:cast|type|conversion|path|set))"
            ),
            rf"(?:prompts?|lyrics|{CONTENT}|text|images?|audio) (?:is|are) (?:\w+ )?{TAINTED}",
            r"(?:flagged|considered|classified|deemed|is) (?:as |to be )?(?:\w+ )?(?:high[ -]risk|violating)",
            rf"{GIVEN}(?: (?:was|were|is|has been|have been))?[ _](?:flagged|censored)(?! for\b)",
            f"flagged {GIVEN}",
        ),
        "field report: failed predictions, and moderation that gateways pass on",
        real=(
            "The input or output was flagged as sensitive. Please try again with different inputs.",
            "This request was considered high risk",
            "The model did not generate the expected output for this prompt because it was flagged as unsafe content.",
        ),
        alike=(
            "flagged as sensitive",
            "The generated audio was identified as copyrighted",
            "The prompt was deemed inappropriate",
            "Input flagged: hate",
            "The prompt has been censored",
            "The prompt is unsafe",
            "flagged content",
        ),
        innocent=(
            "worker flagged as unhealthy",
            "the job was flagged for a retry",
            "detected an unsupported driver",
            "detected explicit cast failure",
            "Access to this application is forbidden for this key.",
            "This model is restricted to enterprise customers",
        ),
    ),
    Phrase(
        "content",
        (
            f"{REFUSED},? (?:by|due to|because of|because it|for|as a result of|under|per|on|as) … {GUARD}",
            (
                f"{REFUSED},? (?:by|due to|because of|for) … (?:unsafe|policy violation|policy reasons?|safety reasons?"
                "|sensitive words?)"
            ),
            rf"{GUARD},? (?:\w+ ){{0,2}}?(?:{REFUSED}|triggered|refuses|rejects|blocks|prevent(?:s|ed))",
            rf"triggered (?:\w+ )?{GUARD}",
            rf"{REFUSED}[,:]? (?:due to |for |because of )?safety(?=\W*$| (?:reasons|concerns|block))",
            rf"{REFUSED}: .{{0,20}}?\b{VICE}",
            rf"{REFUSED}: (?:\w+ )?policy(?=\W*$)",
            (
                rf"(?:refus|block|declin|reject|withh|censor)\w* … (?:due to|because of|under|per|for) … (?:{POLICY}"
                "|(?:policy|safety) (?:reasons?|guidelines))"
            ),
            rf"(?:not|unable|can't|cannot|couldn't) … (?:due to|because of) (?:\w+ )?{POLICY}",
        ),
        "https://fal.ai/docs/documentation/model-apis/errors",
        real=(
            "The content could not be processed because it contained material flagged by a content checker.",
            "The content was flagged by a content checker.",
            "Content was flagged by the safety system. Try different prompts or inputs.",
            (
                "Your request was rejected as a result of our safety system. Your prompt may contain text that "
                "is not allowed."
            ),
            "Your request was blocked by our moderation system.",
            "Request blocked: The uploaded audio was flagged by Google safety review.",
            "Your request was flagged by our content moderation system, as a result your request was denied",
            "Your prompt was caught by our AI moderator. Please adjust it and try again!",
            (
                "Audio generation failed with the following error: All responses were blocked by recitation "
                "checks. Please modify your prompt and try again."
            ),
            "The generated image was blocked by the safety filter.",
            "Image generation failed because the prompt was blocked by safety settings.",
            "Your prompt was flagged by our content policy",
        ),
        alike=(
            "The output was withheld for safety reasons",
            "The safety system rejected your prompt",
            "safety filters were triggered by the prompt",
            "The model refused to generate this due to its content policy",
            "Unprocessable: the text prompt triggered our safety filter",
            "safety_filter_triggered",
            "Prompt has been blocked: SAFETY",
            "prompt blocked: hate speech",
            "Blocked: harassment",
            "Request refused: policy",
            "Sorry, this prompt can't be processed due to our content policy",
        ),
        innocent=(
            "Request rejected because of a content length mismatch",
            "rejected by the scheduler",
            "flagged by the health check",
            "Blocked by Cloudflare security policy",
            "Request blocked: the content moderation service is unavailable",
            "connection refused by upstream content server",
            "The provider refused the connection",
            "image pull policy rejected",
        ),
    ),
    Phrase(
        "content",
        (
            (
                "(?:violat(?:e|es|ed|ing|ion|ions|ive)|breach(?:es|ed)?|against|contravenes?|in breach of|infring(?:e"
                f"|es|ed|ing)) … {POLICY}"
            ),
            rf"not (?:allowed|permitted|comply|compliant|in line)(?: \w+)?(?: under| with| by)? … {POLICY}",
            rf"{POLICY}.{{0,20}}?\b(?:violat|breach|refus|reject|block|denied|declin)\w*",
            (
                r"(?:prompt|content|lyrics|text|image|audio)s? (?:\w+ )?violat\w+ (?:\w+ )?(?:policy|policies"
                "|guidelines?|rules|terms)"
            ),
            "content violation",
            r"against (?:\w+ ){1,2}terms",
            (
                r"(?:prompts?|content|lyrics|text|songs?) (?:is|are|goes) against (?:our|the|their) (?:\w+ )?(?:rules|"
                r"guidelines)"
            ),
            "copyright (?:violation|infringement|restrictions?)",
            "infring(?:e|es|ed|ing) … (?:copyright|rights|trademark)",
        ),
        (
            "https://discuss.ai.google.dev/t/lyria-3-5-interactions-api-19-22-controlled-requests-rejected-with-prohib"
            "ited-content-urgent-engineering-review/196393"
        ),
        real=(
            "This request violates our usage policies",
            (
                "The prompt could not be submitted. The prompt contains sensitive words that violate Google's "
                "Generative AI Prohibited Use policy. Try rephrasing the prompt."
            ),
            (
                "Veo could not generate videos because the input image violates Google's Responsible AI "
                "practices. Support codes: 63429089"
            ),
            "This prompt appears to violate our terms of service and will be reported.",
            "The request failed because the output video may be related to copyright restrictions.",
        ),
        alike=(
            "The text you are trying to use may violate our Terms of Service and has been blocked.",
            "Your content is against our community guidelines",
            "This may violate our guardrails concerning nudity",
            "Internal server error: content policy violation",
            "blocked for content policy reasons: content policy violated",
            "Prompt violates policy",
            "not allowed under our content policy",
            "Content policy: request denied",
            "content violation",
            "Prompt is against ElevenLabs terms",
            "This prompt is against our rules on violence",
            "The output may infringe a trademark",
        ),
        innocent=(
            "violates foreign key constraint",
            "memory access violation reading location 0x0",
            "the model's content policy service is unavailable",
            "content policy check timed out",
            "see our content policy for what is stored",
            "Retry policy violated",
        ),
    ),
    Phrase(
        "content",
        (
            f"{GIVEN}(?: (?:was|were|is|has been|have been|got))? moderated",
            "moderation[ _](?:blocked|rejected|flagged|block|refused)",
            r"(?:content|prompt)[_ ]?moderat(?:ed|ion)(?=\W*$)",
            "failed: moderation",
            f"moderation[_ ]failed … (?:{BAD}|{VICE})",
            rf"moderation: .{{0,20}}?\b{REFUSED}",
            "(?:prompt|content|request|input|output) (?:not allowed|rejected) (?:because|by) … moderation",
        ),
        "field report: the statuses of Black Forest Labs' API, and of clients of OpenAI's and Stability's",
        real=(
            "Request Moderated",
            "Content Moderated",
            "Task failed: Request Moderated",
            "Your request was moderated by Flux and could not be processed",
            "moderation_blocked: Your request was blocked by our moderation system.",
        ),
        alike=(
            "Content moderation failed: NSFW content",
            "moderation_failed: hate",
            "Prompt not allowed because advanced moderation failed",
            "content_moderation",
            "Moderation: content rejected",
            "task failed: moderation",
        ),
        innocent=(
            "moderation queue is full",
            "moderation timed out",
            "moderately long prompt",
            "moderation API returned 503",
        ),
    ),
    Phrase(
        "content",
        (
            (
                "(?:fail(?:s|ed|ure)?|did ?n[o']t|does ?n[o']t|can ?n[o']t|could ?n[o']t|not)(?: to)? (?:pass(?:ed"
                rf"|ing)? )?(?:the |our |its )?(?:{CONTENT}|safety|moderation|nsfw|risk control|ai)[ _-]?(?:\w+"
                r" )?(?:checks?|reviews?|filters?|inspections?|moderation|systems?|screening)(?! to\b)"
            ),
            f"(?:{GIVEN}|it) (?:(?:has|have) )?(?:did ?n[o']t pass|did not pass|failed|fails) (?:the |our )?moderation",
        ),
        "field report: Kling and Ideogram behind gateways",
        real=("Failure to pass the risk control system",),
        alike=(
            "Prompt provided failed safety check due to the inclusion of prohibited content.",
            "The prompt did not pass the content review",
            "Output failed safety checks",
            "Prompt did not pass moderation",
        ),
        innocent=(
            "Safety checker failed to load from pretrained",
            "failed to run the health check",
            "did not pass the readiness check",
            "could not initialise the safety filter",
        ),
    ),
)
"""A content check refused the content."""
