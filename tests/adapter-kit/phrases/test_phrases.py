"""The tables of phrases: texts that report a caller's mistake, and texts with the same words that report none."""

import time
from collections import Counter

import pytest

from adapter_kit.phrases.own import OWN_PHRASES
from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.reading import CALLER_PHRASES, CONTENT_PHRASES, kind_said, sentences_of
from adapter_kit.phrases.service import NOUNS, SERVICE_PHRASES
from contracts.failures import FAILURES, FailureKind

PHRASES = (*CONTENT_PHRASES, *CALLER_PHRASES, *SERVICE_PHRASES, *NOUNS, *OWN_PHRASES)
KINDS = {"content": FailureKind.CONTENT_POLICY, "input": FailureKind.INVALID_INPUT, "service": None, "own": None}
MATCHING = [(phrase, text) for phrase in PHRASES for text in (*phrase.real, *phrase.alike)]
NOT_MATCHING = [(phrase, text) for phrase in PHRASES for text in phrase.innocent]


def name(value: object) -> str:
    return value.says[0][:20] if isinstance(value, Phrase) else str(value)[:40]


@pytest.mark.parametrize(("phrase", "text"), MATCHING, ids=name)
def test_each_text_has_the_kind_of_its_phrase(phrase: Phrase, text: str) -> None:
    assert any(phrase.found_in(sentence) for sentence in sentences_of(text)), "another row reads it"
    assert kind_said([text]) is KINDS[phrase.topic]


@pytest.mark.parametrize(("phrase", "text"), NOT_MATCHING, ids=name)
def test_a_text_with_the_same_words_and_another_meaning_has_no_kind(phrase: Phrase, text: str) -> None:
    assert kind_said([text]) is None


@pytest.mark.parametrize("phrase", PHRASES, ids=name)
def test_every_pattern_matches_an_example(phrase: Phrase) -> None:
    sentences = [sentence for text in (*phrase.real, *phrase.alike) for sentence in sentences_of(text)]
    unmatched = [says for says in phrase.says if not any(Phrase("content", (says,), "").found_in(s) for s in sentences)]
    assert unmatched == []


def test_every_phrase_has_a_source_and_there_are_enough_real_messages() -> None:
    assert all(phrase.source.startswith(("https://", "field report: ")) for phrase in PHRASES)
    assert sum(len(phrase.real) for phrase in PHRASES if phrase.topic in ("content", "input")) >= 60
    texts = Counter(text for phrase in PHRASES for text in (*phrase.real, *phrase.alike))
    assert [text for text, times in texts.items() if times > 1] == []


def test_every_kind_of_the_tables_is_the_callers_fault() -> None:
    assert all(kind is None or FAILURES[kind].callers_fault for kind in KINDS.values())


@pytest.mark.parametrize(
    "text",
    [
        "safety checker failed to load",
        "the model's content policy service is unavailable",
        "the model's content policy service timed out",
        "CUDA out of memory",
        "invalid input tensor shape",
        "prompt processing failed: worker crashed",
        "This field is required",
        "Internal Server Error",
        "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.",
        "You do not have permission to run this model.",
        "Prediction interrupted; please retry (code: PA)",
        "Director: unexpected error handling prediction (E9828)",
        "KeyError: 'prompt'",
        "1 validation error for PredictionResponse\nlogs\n  Input should be a valid string",
        "blocked by CORS policy",
        "run exceeded the maximum duration of 30 minutes",
        "The content server rejected the upload",
        "",
    ],
)
def test_a_fault_of_the_provider_is_not_a_callers_mistake(text: str) -> None:
    assert kind_said([text]) is None


def test_each_sentence_is_judged_separately() -> None:
    assert kind_said(["The prompt was flagged by the content filter. The worker crashed."]) is KINDS["content"]
    assert kind_said(["The content filter crashed while it read the prompt. Please retry."]) is None
    assert kind_said(["Input validation error", "NSFW content detected"]) is KINDS["content"]


PROMPT = 'A protest song: "NSFW content detected", cried the censor; content policy violation, flagged as sensitive'


@pytest.mark.parametrize(
    "message",
    [
        f"failed to process prompt {PROMPT!r}: worker lost",
        f"Internal error for input {PROMPT[:60]}...",
        "could not render: " + PROMPT.replace('"', '\\"'),
        f"prompt: {PROMPT}\nlyrics: {PROMPT}\nexit status 1",
    ],
)
def test_the_callers_text_quoted_in_an_error_is_ignored(message: str) -> None:
    assert kind_said([message], [PROMPT]) is None
    assert kind_said([message + " " + PROMPT * 3_000], [PROMPT]) is None
    assert kind_said([f"{message}. Your request was blocked by our moderation system."], [PROMPT]) is KINDS["content"]


def test_a_short_prompt_removes_no_words_of_the_error() -> None:
    assert kind_said(["NSFW content detected in all outputs"], ["NSFW content"]) is KINDS["content"]


FRAMES = "".join(
    f'  File "/src/model_{n}.py", line {n}, in predict\n    raise ContentError(prompt)\n' for n in range(400)
)


@pytest.mark.parametrize("before", ["", "Using seed: 7\n" * 900], ids=["traceback", "log"])
@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("ValueError: NSFW content detected in all outputs", KINDS["content"]),
        ("ValueError: lyrics must be at most 600 characters", KINDS["input"]),
        ("ValidationError: 1 validation error for Input\nlyrics\n  Input should be a valid string", KINDS["input"]),
        ("NSFWContentError: image 0: " + "0.99 " * 2_000, KINDS["content"]),
        ("RuntimeError: safety checker failed to load", None),
        ("torch.OutOfMemoryError: CUDA out of memory", None),
    ],
)
def test_the_last_line_of_a_traceback_decides(before: str, end: str, kind: FailureKind | None) -> None:
    message = f"{before}Traceback (most recent call last):\n{FRAMES}{end}"
    assert kind_said([message]) is kind
    assert kind_said([message.replace("\n", "\\n")]) is kind, "as JSON writes it"


def test_source_lines_in_a_traceback_are_ignored() -> None:
    code = '  File "x.py", line 3, in run\n    raise ValueError("NSFW content detected in all outputs")\nKeyError: 0'
    assert kind_said([f"Traceback (most recent call last):\n{code}"]) is None


@pytest.mark.parametrize(
    "text",
    [
        "Your prompt contains sensitive words: crash",
        "Your prompt 'car crash' contains violent content",
        "The lyrics contain inappropriate content: nan",
        "Prompt contains prohibited words: password, gpu",
        'The prompt "my credit card invoice" was flagged by our content policy',
        "The lyrics 'the server is busy' contain explicit content",
        "OpenAI API error: your prompt violates our content policy (api_key=***)",
        "Prompt contains banned words: kernel.",
    ],
)
def test_words_quoted_from_the_content_are_not_read_as_a_service_fault(text: str) -> None:
    assert kind_said([text]) is KINDS["content"]


@pytest.mark.parametrize(
    "text",
    [
        "content policy violation check: the worker crashed",
        "Request rejected: unsafe content check crashed",
        "NSFW content detected in a tensor of nan",
        "The prompt was flagged because the API key is invalid",
    ],
)
def test_a_service_fault_outside_a_quotation_counts(text: str) -> None:
    assert kind_said([text]) is None


@pytest.mark.parametrize(
    "text",
    [
        "Internal error. If your prompt violates our content policy it will be rejected.",
        "Requests that violate our usage policies may be blocked.\n503 Service Unavailable",
        "Internal error 500. Make sure that your prompt is at most 2000 characters",
        "This may be caused by NSFW content. It may also be a fault of the server.",
        "Possible reasons: content policy violation, network, overload.",
    ],
)
def test_a_conditional_sentence_reports_nothing(text: str) -> None:
    assert kind_said([text]) is None
    assert kind_said([f"{text}\nYour prompt was flagged by our content policy"]) is KINDS["content"]


def test_escaped_line_breaks_separate_lines() -> None:
    assert kind_said(['{"error": "step 3 of 4\\nNSFW content detected in all outputs\\nstopped"}']) is KINDS["content"]


@pytest.mark.parametrize(
    "hostile",
    ["a " * 9_000, "x" * 20_000, "content_policy_" * 2_000, "prompt " * 3_000, "1 " * 9_000, "not allowed: " * 2_000],
    ids=lambda text: text[:15],
)
def test_hostile_texts_are_read_in_bounded_time(hostile: str) -> None:
    began = time.process_time()
    kind_said([hostile], [hostile[:5_000]])
    assert time.process_time() - began < 2
