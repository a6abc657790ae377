"""The Marian models for languages, and how those that translate into several are told which.

Most models are called opus-mt-en-LANGUAGE. A model of several languages wants a code such as >>vie<< before the text.
"""

from collections.abc import Sequence

from captioning.errors import CaptioningError

USUAL = "Helsinki-NLP/opus-mt-en-{}"
OTHERS = {  # languages whose model has another name, or its safetensors files in another revision
    "ja": "Helsinki-NLP/opus-mt-en-jap",
    "ko": "Helsinki-NLP/opus-mt-tc-big-en-ko",
    "pt": "Helsinki-NLP/opus-mt-tc-big-en-pt",
    "tr": "Helsinki-NLP/opus-mt-tc-big-en-tr",
    "vi": "Helsinki-NLP/opus-mt-en-vi@269d795701557cdd499cb99783085cf9c9a3cd50",
}
# languages as the models name them, the usual one first
CODES = (
    "ar ara arb|bg bul|bn ben|ca cat|cs ces|da dan|de deu|el ell|es spa|et est|eu eus|fa fas pes|fi fin|fr fra|ga gle|"
    "gl glg|he heb|hi hin|hr hrv|hu hun|hy hye|id ind|is isl|it ita|ja jpn|ka kat|ko kor|lt lit|lv lav|mk mkd|ms msa "
    "zsm_Latn|nl nld|no nob nor|pl pol|pt por|pt-br pob|ro ron|ru rus|sk slk|sl slv|sq sqi|sr srp_Cyrl srp|sv swe|sw "
    "swh swa|ta tam|te tel|th tha|tl tgl tgl_Latn|tr tur|uk ukr|ur urd|vi vie|zh cmn_Hans cmn zho|zh-hant cmn_Hant"
)
KNOWN = {names[0]: tuple(names) for names in (group.split() for group in CODES.split("|"))}
LISTED = 12  # codes of a model that are named


def default_model(language: str) -> str:
    """The name of the usual model from English into a language."""
    first = language.partition("-")[0]
    return OTHERS.get(first, USUAL.format(first))


def target_code(supported: Sequence[str], language: str, model: str) -> str:
    """What stands before a text so that it is translated into a language; "" for a model of one language."""
    if not supported:
        return ""
    first = language.partition("-")[0]
    for name in (*KNOWN.get(language, (language,)), *KNOWN.get(first, (first,))):
        if f">>{name}<<" in supported:
            return f">>{name}<< "
    known = ", ".join(each.strip("<>") for each in supported[:LISTED]) + (", ..." if supported[LISTED:] else "")
    raise CaptioningError(f"{model} translates into {known}, not into {language}; choose another --translator.")
