"""Phrases about a service that failed: a sentence with one of them says nothing about the caller.

Checks of content are services, too, and fail like others. "The safety checker failed to load" is the provider's fault,
though it names a safety checker.
"""

from __future__ import annotations

from typing import Final

from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.vocabulary import CHECKER, SERVICE

SERVICE_PHRASES: Final = (
    Phrase(
        "service",
        (
            rf"{SERVICE} … (?:unavailable|not available|unreachable|offline|is down|overloaded|at capacity|busy)",
            rf"{SERVICE} … (?:(?:under|in) maintenance|timed? ?out|not responding)",
            "service_unavailable",
        ),
        "field report: moderation that is away, in the code of several gateways",
        real=(
            "Image moderation service unavailable. Please try again later.",
            "the server is busy",
        ),
        alike=(
            "The model's content policy service is unavailable",
            "content moderation backend is down",
            "Blocked: the moderation API is temporarily unavailable",
            "the model is under maintenance",
            "service_unavailable",
        ),
    ),
    Phrase(
        "service",
        (r"tim(?:ed?|ing)[ -]?out", "timeouts?", "deadline exceeded", "took too long"),
        "https://fal.ai/docs/documentation/model-apis/request-errors",
        real=("Request timed out",),
        alike=(
            "The content policy check timed out",
            "NSFW filter: read timeout after 30 s",
            "prompt processing took too long",
            "Deadline exceeded",
        ),
    ),
    Phrase(
        "service",
        (
            (
                r"(?:fail(?:ed|ure|s)?|unable|could ?n[o']t|can ?n[o']t|errors?|exception)\b.{0,20}?"
                r"\b(?:load|initiali[sz]|import|connect|reach|call|contact|pars|decod|respond|instantiat)(?:e|ed|es|ing)?"
            ),
            "(?:unable|failed|could not) to? ?(?:check|verify|moderate|evaluate|classify|scan|review)",
        ),
        "field report: a safety checker that could not be loaded, in the code of image generators",
        real=("Safety checker failed to load from pretrained",),
        alike=(
            "safety checker failed to load",
            "Unable to connect to the content moderation backend; the request was rejected",
            "Error calling moderation endpoint: the prompt was not checked",
            "Unable to check the prompt for policy violations",
        ),
    ),
    Phrase(
        "service",
        (
            rf"{CHECKER}(?: \w+){{0,3}} (?:failed|crashed|errored|disabled|missing|threw|raised|broke)",
            rf"{CHECKER}(?: \w+){{0,3}} returned (?:an? (?:error|exception)|(?:status |http )*5\d\d)",
            rf"{CHECKER}(?: \w+){{0,3}} not (?:configured|loaded|found|installed|initiali[sz]ed)",
            rf"(?:error|exception|failure|crash) … (?:in|while|during|from) … {CHECKER}",
            r"(?:error|exception|failed) … run(?:ning)? … (?:check|filter|detect|moderat|classif)…",
            r"moderat\w* (?:\w+ ){0,2}(?:returned|status|http)[ :]{1,2}(?:\w+ ){0,2}5\d\d",
            (
                r"(?:check|filter|moderation|review|safety|polic(?:y|ies)) … "
                r"could not be (?:performed|completed|run|evaluated|reached)"
            ),
        ),
        "field report: checks of content that fail themselves, in the code of image generators",
        alike=(
            "safety checker crashed with exit code 139",
            "NSFW detector not initialised",
            "Exception in NSFW filter: NoneType has no attribute 'size'",
            "Error while running NSFW detection",
            "Failed to run NSFW classifier: file not found",
            "Content moderation returned HTTP 503",
            "Content moderation could not be completed: upstream error",
            "The content filter returned an error",
        ),
    ),
    Phrase(
        "service",
        (
            r"(?:worker|process|runner|container|pod|node)s? (?:\w+ ){0,2}(?:died|exited|killed|lost|restarted)",
            "crash(?:ed|es)?",
            "segmentation fault|core dumped|out of memory|oom|device-side assert|kernel",
            "cuda|gpus?|tensors?|dtype|nan",
        ),
        "https://replicate.com/docs/reference/error-codes",
        real=("CUDA out of memory",),
        alike=(
            "invalid input tensor shape",
            "prompt processing failed: worker crashed",
            "The model ran out of memory while running the NSFW filter. (E1001)",
            "prompt must match the tensor at least 77 tokens",
            "the worker has died",
        ),
    ),
    Phrase(
        "service",
        (
            "(?:rate|quota|usage|concurrency)[ -]?limit…",
            "too many requests|throttl(?:ed|ing)|capacity",
            "quota (?:was |is |has been )?exceeded",
            "queue (?:is |was )?(?:full|too long)",
            "insufficient (?:balance|credits?|funds|quota)",
        ),
        "https://replicate.com/docs/topics/predictions/rate-limits",
        alike=(
            "Content moderation API rate limit exceeded, the request was rejected",
            "Your input was rejected because the queue is full",
            "MiniMax: insufficient balance (1008)",
            "Too many requests",
            "Quota exceeded",
        ),
    ),
    Phrase(
        "service",
        (
            r"accounts? … (?:suspend|lock|disabl|block|banned|restrict|terminat|flagged)\w*(?!.*\b(?:may|might)\b)",
            r"(?:suspend|lock|disabl|block|banned|restrict|terminat)\w*\b.{0,20}?\baccount(?!.*\b(?:may|might)\b)",
            r"(?:api|auth\w*|access)[ _-]?(?:key|token)s?",
            (
                r"(?:models?|apps?|applications?|versions?|endpoints?) (?:\S+ )?(?:is|was|were|has been|have been) "
                r"(?:\w+ )?(?:removed|disabled|taken down|withdrawn|retired|suspended|unpublished|deprecated)"
            ),
            "organi[sz]ation(?:'s)? polic…",
            "(?:network|egress|firewall|iam|waf|cors|retry|retention|caching|scheduling|scaling|security) polic…",
        ),
        "field report: accounts and models that their provider has locked for reasons of its own",
        alike=(
            "This model has been disabled because it violates our content policy",
            "The application was taken down: it violates our terms of service",
            "Your account has been suspended for violating our Terms of Service",
            "User is locked: account blocked due to a policy violation",
            "Request blocked by organization policy: constraints/gcp.restrictServiceUsage",
            "The response violates the Content Security Policy directive",
            "Invalid API key: the request was rejected by the content policy gateway",
        ),
    ),
    Phrase(
        "service",
        (
            (
                r"(?:no|not|without|zero|0)\s+(?:(?:any|been|be|considered|found|detected|marked|potentially|the|a)\s+){0,2}"
                r"(?:nsfw|flagged|sensitive|unsafe|violat\w*|blocked|moderated|inappropriate|explicit|harmful|prohibited)"
            ),
            r"(?:no|0|zero) (?:images?|outputs?|prompts?|items?|files?) (?:were |was )?(?:flagged|blocked|filtered)",
            "showing the rest",
            r"passed (?:the |all )?(?:\w+ ){0,2}(?:check|filter|moderation|review)…",
            r"(?:disabl(?:ed?|ing)|skipp(?:ed|ing)) (?:the |\w+ )?(?:nsfw|safety|content|moderation)",
            "…未检测到…",
            "…没有(?:检测到)?敏感…",
        ),
        "https://github.com/replicate/cog-stable-diffusion/pull/24",
        real=(
            "No NSFW content detected",
            "NSFW content detected in 1 outputs, showing the rest 3 images...",
        ),
        alike=(
            "The prompt passed the content moderation check and was not flagged",
            "0 images were flagged",
            "skipped NSFW check",
            "未检测到敏感内容",
            "没有敏感词",
        ),
    ),
    Phrase(
        "service",
        (
            r"redact\w*",
            "logs? … (?:contain|sensitive)…",
            "stack ?traces?",
            "headers? … sensitive",
            r"env(?:ironment)? var\w*",
            "(?:secrets?|credentials?|passwords?)",
            r"copyright (?:\(c\)|©|\d{4}|notice)…",
        ),
        "field report: lines about logs and secrets among a model's own",
        alike=(
            "The response headers contain sensitive information and were not forwarded",
            "logs contain sensitive information and were redacted",
            "Copyright (c) 2024 NVIDIA Corporation",
            "see the stack trace",
            "environment variable flagged as sensitive",
            "password contains prohibited words",
        ),
    ),
)
"""In any of these a word about content or input is no verdict on them."""
