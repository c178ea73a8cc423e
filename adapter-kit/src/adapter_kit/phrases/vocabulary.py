"""Parts of regular expressions that the phrase tables share."""

from __future__ import annotations

from typing import Final

CONTENT: Final = r"content(?![ _-]?(?:type|length|encoding|disposition|security|delivery|hash|url|id\b))"
"""The word "content", except in technical terms such as "content type"."""

GIVEN: Final = (
    r"(?:inputs?|outputs?|prompts?|lyrics?|text|images?|audio|videos?|music|songs?|tags?|description|requests?"
    rf"|generations?|results?|responses?|{CONTENT}|media|files?|tracks?)"
)
"""Inputs of a caller and outputs made from them."""

TAINTED: Final = (
    r"(?:sensitive|inappropriate|prohibited|disallowed|explicit|harmful|unsafe|offensive|sexual(?:ly)?|nsfw"
    r"|copyright(?:ed)?|abusive|hateful|violent|profane|toxic|objectionable|obscene|extremist)"
)
"""Adjectives for refused content only."""

BAD: Final = rf"(?:{TAINTED}|forbidden|banned|blocked|protected|illegal|restricted)"
"""Adjectives for refused content, some of which are used of other things too."""

VICE: Final = (
    r"(?:hate speech|sexual|nudity|violence|violent|gore|self-harm|profanity|slurs?|hate|harassment|obscen\w+"
    "|terrorism|racism|nud(?:e|es)|csam)"
)

_OF_CONTENT: Final = "content|usage|use|safety|community|moderation|acceptable[ -]use|ai|prohibited[ -]use"

POLICY: Final = (
    rf"(?:(?:{_OF_CONTENT}|platform|google|openai|our|their|provider)(?:'s)?[ _-](?:[a-z]+[ _-]){{0,4}}?"
    rf"(?:polic(?:y|ies)|guidelines?|standards?|principles|guardrails?)|(?:{_OF_CONTENT})[ _-](?:[a-z]+[ "
    rf"_-]){{0,2}}?rules"
    r"|terms of (?:service|use)|tos|responsible ai|guardrails?|prohibited use)"
)
"""Rules about content, including "our … policies"; not "our rules", which may be those of a firewall."""

GUARD_MODEL: Final = (
    r"(?:(?:llama|prompt|granite|wild)[ _-]?guard(?:ian)?(?:[ _-]?\d)?|shield ?gemma|nemo[ _-]?guardrails|"
    r"guard ?models?"
    r"|(?:azure )?(?:ai )?content[ _-]safety)"
)
"""Names of guard models."""

GUARD: Final = (
    rf"(?:(?:{CONTENT}|safety|moderation|nsfw|prompt|input|output|ai|google|our)[ _-](?:[a-z]+[ _-]){{0,3}}?"
    r"(?:filters?|checkers?|checks?|moderat(?:ion|or)|review|inspection|guard(?:rail)?s?|classifiers?"
    rf"|settings)|(?:{CONTENT}|safety|moderation|nsfw|ai)[ _-](?:[a-z]+[ _-]){{0,2}}?systems?|moderation|"
    rf"moderators?|recitation|risk control|guardrails?|copyright|nsfw|{POLICY})"
)
"""Systems that check content; "our system" alone is too general."""

REFUSED: Final = (
    r"(?:flagged|blocked|rejected|refused|filtered(?: out)?|caught|stopped|denied|declined|withheld|intercepted"
    r"|removed|suppressed|moderated)"
)

WRITTEN: Final = r"(?:(?:input |text |lyrics )?prompts?|lyrics?|(?:input )?text|song description|tags)"
"""Texts that only a caller writes."""

FIELD: Final = (
    r"(?:(?:negative[ _]|text[ _]|lyrics[ _]|input[ _])?prompts?|lyrics?|captions?|descriptions?|styles?|tags?|titles?"
    r"|input[ _]text|text[ _]input|composition[ _]plan|reference[ _]audio|the (?:input )?text|your (?:input|text))"
)
"""Text inputs of a caller."""

UNIT: Final = r"(?:char(?:acter)?s?|tokens?|words?|letters?|(?:unicode )?code[ -]?points?|symbols?|lines?)"

BOUND: Final = (
    r"(?:too (?:long|short|large|many)|(?:longer|shorter|greater|less|more|fewer|larger) than|exceed(?:s|ed|ing)?"
    r"|at (?:most|least)|up to|max(?:imum)?|min(?:imum)?|between|over|limit(?:ed)?|under|below|above|<=?|>=?|≤|≥)"
)

PARAMETER: Final = (
    r"(?:duration(?:_s|_ms|_seconds)?|seconds_total|music_length_ms|song length|audio length"
    r"|num_(?:outputs|images|inference_steps)|(?:image )?(?:width|height)|aspect[ _]ratio|resolution|ratio"
    r"|guidance(?:_scale)?|cfg(?:_scale)?|sample[ _]rate|bitrate|bpm|tempo|temperature|top_[kp]|voice(?:[_ ]id)?"
    r"|language|seed|output[ _]format|audio[ _]format|image[ _]size|megapixels|output_quality)"
)
"""Parameters that a caller sets, by the names that models use."""

MEDIUM: Final = r"(?:audio|videos?|images?|photos?|media|clips?|soundtracks?)"

MEDIA: Final = (
    rf"(?:(?:reference|input|source|uploaded|provided)[ _]{MEDIUM}|(?<!output )(?:audio|video|image)(?: file| clip)?)"
)
"""Files that a caller provides."""

SERVICE: Final = (
    r"(?:services?|servers?|systems?|models?|checkers?|classifiers?|filters?|detectors?|endpoints?|apis?|workers?"
    r"|gpus?|backends?|upstreams?|moderat(?:ion|or)s?|guard(?:rail)?s?|provider|queue|pods?|containers?)"
)

CHECKER: Final = (
    r"(?:checkers?|classifiers?|filters?|detectors?|moderators?|guard ?models?|safety models?|policy service)"
)
"""Programs that check content and may fail."""
