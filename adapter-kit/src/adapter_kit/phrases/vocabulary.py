"""Words that the tables of phrases share, as parts of regular expressions."""

from __future__ import annotations

from typing import Final

CONTENT: Final = r"content(?![ _-]?(?:type|length|encoding|disposition|security|delivery|hash|url|id\b))"
"""Content, and none of the technical terms that begin with the word."""

GIVEN: Final = (
    r"(?:inputs?|outputs?|prompts?|lyrics?|text|images?|audio|videos?|music|songs?|tags?|description|requests?"
    rf"|generations?|results?|responses?|{CONTENT}|media|files?|tracks?)"
)
"""What a caller gives, and what is made of it."""

TAINTED: Final = (
    r"(?:sensitive|inappropriate|prohibited|disallowed|explicit|harmful|unsafe|offensive|sexual(?:ly)?|nsfw"
    r"|copyright(?:ed)?|abusive|hateful|violent|profane|toxic|objectionable|obscene|extremist)"
)
"""What only content is said to be."""

BAD: Final = rf"(?:{TAINTED}|forbidden|banned|blocked|protected|illegal|restricted)"
"""What refused content is said to be, and other things, too."""

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
"""Rules about content; "our … policies" among them, and not "our rules", which firewalls have, too."""

GUARD_MODEL: Final = (
    r"(?:(?:llama|prompt|granite|wild)[ _-]?guard(?:ian)?(?:[ _-]?\d)?|shield ?gemma|nemo[ _-]?guardrails|"
    r"guard ?models?"
    r"|(?:azure )?(?:ai )?content[ _-]safety)"
)
"""A guard by its name."""

GUARD: Final = (
    rf"(?:(?:{CONTENT}|safety|moderation|nsfw|prompt|input|output|ai|google|our)[ _-](?:[a-z]+[ _-]){{0,3}}?"
    r"(?:filters?|checkers?|checks?|moderat(?:ion|or)|review|inspection|guard(?:rail)?s?|classifiers?"
    rf"|settings)|(?:{CONTENT}|safety|moderation|nsfw|ai)[ _-](?:[a-z]+[ _-]){{0,2}}?systems?|moderation|"
    rf"moderators?|recitation|risk control|guardrails?|copyright|nsfw|{POLICY})"
)
"""What watches over content; "our system" alone is anything."""

REFUSED: Final = (
    r"(?:flagged|blocked|rejected|refused|filtered(?: out)?|caught|stopped|denied|declined|withheld|intercepted"
    r"|removed|suppressed|moderated)"
)

WRITTEN: Final = r"(?:(?:input |text |lyrics )?prompts?|lyrics?|(?:input )?text|song description|tags)"
"""What a caller writes, and few others do."""

FIELD: Final = (
    r"(?:(?:negative[ _]|text[ _]|lyrics[ _]|input[ _])?prompts?|lyrics?|captions?|descriptions?|styles?|tags?|titles?"
    r"|input[ _]text|text[ _]input|composition[ _]plan|reference[ _]audio|the (?:input )?text|your (?:input|text))"
)
"""What a caller writes."""

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
"""What a caller chooses, by the names that models have for it."""

MEDIUM: Final = r"(?:audio|videos?|images?|photos?|media|clips?|soundtracks?)"

MEDIA: Final = (
    rf"(?:(?:reference|input|source|uploaded|provided)[ _]{MEDIUM}|(?<!output )(?:audio|video|image)(?: file| clip)?)"
)
"""A file that a caller gives."""

SERVICE: Final = (
    r"(?:services?|servers?|systems?|models?|checkers?|classifiers?|filters?|detectors?|endpoints?|apis?|workers?"
    r"|gpus?|backends?|upstreams?|moderat(?:ion|or)s?|guard(?:rail)?s?|provider|queue|pods?|containers?)"
)

CHECKER: Final = (
    r"(?:checkers?|classifiers?|filters?|detectors?|moderators?|guard ?models?|safety models?|policy service)"
)
"""A program that checks content, as a thing that may break."""
