"""Phrases about a failure of the service; a sentence with one of them is not about the caller.

Content checks are services too and may fail: "The safety checker failed to load" is the provider's fault, although it
names a safety checker.
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
            r"connections? (?:\w+ )?(?:reset|refused|aborted|closed|lost|error)|broken pipe",
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
            "content_filter_service: connection reset",
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
                r"\b(?:load|initiali[sz]|import|connect|reach|(?<!api )call|contact|pars(?!e (?:string|input|"
                r"value|\w+ as))"
                r"|respond|instantiat)(?:e|ed|es|ing)?"
            ),
            (
                "(?:unable|failed|could not) to? ?(?:check|verify|moderate|evaluate|classify|scan|review|run|perform|"
                "start|use)"
            ),
        ),
        "field report: a safety checker that could not be loaded, in the code of image generators",
        real=("Safety checker failed to load from pretrained",),
        alike=(
            "safety checker failed to load",
            "Unable to connect to the content moderation backend; the request was rejected",
            "Error calling moderation endpoint: the prompt was not checked",
            "Unable to check the prompt for policy violations",
            "Unable to run content moderation",
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
            (
                r"(?:worker|process|runner|container|pod|node)s? (?:\w+ ){0,2}(?:died|exited|killed|lost|restarted|"
                r"crash(?:ed|es)?)"
            ),
            "segmentation fault|core dumped|out of memory|device-side assert",
        ),
        "https://replicate.com/docs/reference/error-codes",
        real=("CUDA out of memory",),
        alike=(
            "prompt processing failed: worker crashed",
            "The model ran out of memory while running the NSFW filter. (E1001)",
            "the worker has died",
        ),
    ),
    Phrase(
        "service",
        (
            "(?:rate|quota|usage|concurrency)[ -]?limit…",
            "too many requests|throttl(?:ed|ing)|capacity",
            "(?:quota|tokens|monthly limit) (?:was |is |has been )?exceeded",
            r"concurren\w+",
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
            "Blocked by platform rules for concurrent requests",
        ),
    ),
    Phrase(
        "service",
        (
            r"accounts? … (?:suspend|lock|disabl|block|banned|restrict|terminat|flagged)\w*(?!.*\b(?:may|might)\b)",
            r"(?:suspend|lock|disabl|block|banned|restrict|terminat)\w*\b.{0,20}?\baccount(?!.*\b(?:may|might)\b)",
            (
                r"(?:invalid|incorrect|missing|expired|revoked|wrong|bad|unknown|no) (?:\w+ ){0,2}(?:key|token|"
                r"credentials?)"
            ),
            (
                r"(?:api|auth\w*|access)[ _-]?(?:key|token)s? (?:is|was|has|not|does|lacks|invalid|missing|required|"
                r"expired)"
            ),
            (
                r"(?:models?|apps?|applications?|versions?|endpoints?) (?:\S+ )?(?:is|was|were|has been|have been) "
                r"(?:\w+ )?(?:removed|disabled|taken down|withdrawn|retired|suspended|unpublished|deprecated)"
            ),
            "organi[sz]ation(?:'s)? polic…",
            (
                "(?:network|egress|firewall|iam|waf|cors|retry|retention|caching|scheduling|scaling|security"
                "|execution|sandbox|seccomp|system|pod|resource) polic…"
            ),
            r"(?:access|billing|payment|refund|rate|fair[ -]use|abuse|spam) (?:\w+ )?polic…",
        ),
        "field report: accounts and models that their provider has locked for reasons of its own",
        alike=(
            "This model has been disabled because it violates our content policy",
            "The application was taken down: it violates our terms of service",
            "Your account has been suspended for violating our Terms of Service",
            "User is locked: account blocked due to a policy violation",
            "Request blocked by organization policy: constraints/gcp.restrictServiceUsage",
            "The response violates the Content Security Policy directive",
            "Request blocked under our fair use policy",
            "Sandbox policy violation: network access",
            "Invalid API key: the request was rejected by the content policy gateway",
            "The API key is not allowed to use this content",
        ),
    ),
    Phrase(
        "service",
        (
            (
                r"(?:no|not|without|zero|0)\s+(?:(?:any|been|be|considered|found|detected|marked|potentially|the|"
                r"a)\s+){0,2}"
                r"(?:nsfw|flagged|sensitive|unsafe|violat\w*|blocked|moderated|inappropriate|explicit|harmful|"
                r"prohibited)"
            ),
            r"(?:no|0|zero) (?:images?|outputs?|prompts?|items?|files?) (?:were |was )?(?:flagged|blocked|filtered)",
            "showing the rest",
            r"…nsfw\w*\W{1,5}false",
            r"passed (?:the |all )?(?:\w+ ){0,2}(?:check|filter|moderation|review)…",
            r"(?:disabl(?:ed?|ing)|skipp(?:ed|ing)) (?:the |\w+ )?(?:nsfw|safety|content|moderation)",
            (
                "(?:no|0|zero|without) (?:\\w+ )?(?:profanity|copyright|violations?|hate speech|nudity|violence|"
                "artist names?)"
            ),
            "…(?:未|没有|没)(?:检测到|发现|检出|命中|涉及|触发)…",
            "…(?:没有|不含|不包含|无|未包含).{0,2}(?:敏感|违规|违禁|侵权)…",
        ),
        "https://github.com/replicate/cog-stable-diffusion/pull/24",
        real=(
            "No NSFW content detected",
            "NSFW content detected in 1 outputs, showing the rest 3 images...",
        ),
        alike=(
            "The prompt passed the content moderation check and was not flagged",
            "0 images were flagged",
            '{"has_nsfw_concepts": [false]}',
            "skipped NSFW check",
            "未检测到敏感内容",
            "没有敏感词",
            "No profanity detected",
        ),
    ),
    Phrase(
        "service",
        (
            r"redact\w*|mask(?:ed|ing)",
            "logs? … (?:contain|sensitive)…",
            "stack ?traces?",
            "headers? … sensitive",
            r"env(?:ironment)? var\w*",
            r"copyright (?:\(c\)|©|\d{4}|notice)…",
        ),
        "field report: lines about logs and secrets among a model's own",
        alike=(
            "The response headers contain sensitive information and were not forwarded",
            "logs contain sensitive information and were redacted",
            "Copyright (c) 2024 NVIDIA Corporation",
            "see the stack trace",
            "environment variable flagged as sensitive",
        ),
    ),
    Phrase(
        "service",
        (
            (
                r"out of credits|(?:no|not enough|low on|add|buy|more|purchase) credits?|unpaid|invoices?|paying|pay "
                r"(?:your|for|the)"
            ),
            (
                r"(?:paid|free|premium|enterprise|current) (?:plans?|users?|tiers?|customers?|accounts?)|"
                r"subscri(?:ption|be)\w*"
            ),
            r"payment (?:is|was|required|method|failed|due|received)|(?:account|your|low|credit) balance|billing",
            r"firewall|waf|cloudflare|load balancer|by (?:the|our) scheduler|anti-?bots?|bots?|spam|fraud|ddos|captcha",
            r"ip (?:address|range)…|(?:your|this) ip|rate limit\w*|access rules",
            r"for (?:a |another )?retry|(?:at the|this) moment|right now|(?:in|for) your (?:region|country|area)",
            r"administrators?|administrative|maintenance",
        ),
        "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/4xx-client-error/",
        real=("Request forbidden by administrative rules",),
        alike=(
            "The generation was stopped by our moderation: out of credits",
            "This content is restricted to paying users",
            "Your content is blocked until you pay your invoice",
            "This content requires a paid plan",
            "Output blocked: payment required",
            "Response blocked by our firewall rules",
            "Request was flagged as spam",
            "Your IP is blocked by our content rules",
            "The request was flagged for retry by our system",
            "This content is blocked in your region",
            "Can't help with that at the moment",
        ),
    ),
    Phrase(
        "service",
        (
            "…(?:服务|系统|接口|上游|网络|模型).{0,6}(?:异常|超时|繁忙|不可用|错误|故障|失败)…",
            "…(?:余额不足|欠费|限流|频繁|并发|排队|账号|账户|密钥|配额)…",
        ),
        "field report: services in China behind gateways",
        alike=("内容审核服务超时", "内容安全服务异常", "账号因违规内容被封禁", "请求过于频繁，内容被拒绝"),  # noqa: RUF001
    ),
)
"""In these sentences, words about content or input are not a verdict on them."""

NOUNS: Final = (
    Phrase(
        "service",
        (
            "crash(?:ed|es)?",
            "oom|kernel",
            "cuda|gpus?|tensors?|dtype|nan",
            "secrets?|credentials?|passwords?",
        ),
        "https://replicate.com/docs/reference/error-codes",
        alike=(
            "invalid input tensor shape",
            "prompt must match the tensor at least 77 tokens",
            "oom while the prompt is too long",
            "the prompt was flagged, then it crashed",
            "password contains prohibited words",
        ),
    ),
)
"""Parts of a service that may also be the subject of a song; they do not count in quotations or in a verdict's list."""
