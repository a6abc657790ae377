"""Captions in languages that a captioner does not have: its English captions, translated by a Marian model.

A captioner that has the language comes first. A translation stands beside the words of its caption, to which the
attention and the confidence belong.
"""

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.errors import BundleError, CaptioningError, MissingExtra
from captioning.extras.hf_files import check_folder, weight_bytes
from captioning.extras.hf_generation import one_line
from captioning.extras.hf_hub import Consent, folder_of
from captioning.extras.hf_models import explain_memory, load_model, load_processor
from captioning.extras.marian_names import default_model, target_code
from captioning.extras.translation_cache import Tell, TranslationCache
from captioning.inference.caption import Caption, Translation
from captioning.inference.protocol import AnyCaptioner, Description, encodes_apart
from captioning.options import DecodeOptions, changed, is_language
from captioning.runtime.environment import explain_missing_packages

if TYPE_CHECKING:
    import numpy as np
    from transformers import MarianMTModel, MarianTokenizer

AT_ONCE = 32  # texts in a batch
LONGEST = 200  # tokens of a translation
ENGLISH = "en"
NEEDED = ("torch", "transformers", "sentencepiece")  # modules of the extra hf

Translate = Callable[[Sequence[str]], list[str]]


def tell_terminal(sentence: str) -> None:
    """Writes a sentence to the terminal."""
    print(f"captioning: {sentence}", file=sys.stderr)


class Translator:
    """Translates English texts into one language; its model is loaded when the first text is not in the cache."""

    def __init__(self, name: str, folder: Path, language: str, *, cache: TranslationCache | None = None) -> None:
        self.name, self.language = name, language
        self._folder, self._cache = folder, cache
        self._lock, self._code = threading.Lock(), ""
        self._parts: tuple[MarianMTModel, MarianTokenizer] | None = None

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The translations of these texts, in their order."""
        wanted = list(dict.fromkeys(texts))
        found = self._cache.find(wanted) if self._cache else {}
        found |= {text: text for text in wanted if not text.strip()}
        missing = [text for text in wanted if text not in found]
        for first in range(0, len(missing), AT_ONCE):
            part = missing[first : first + AT_ONCE]
            fresh = dict(zip(part, self._translate(part), strict=True))
            if self._cache:
                self._cache.add(fresh)
            found |= fresh
        return [found[text] for text in texts]

    def captions(self, captions: Sequence[Caption]) -> list[Caption]:
        """The captions, each and its next best ones with a translation beside it."""
        texts = [each.text for caption in captions for each in (caption, *caption.alternatives)]
        made = {text: Translation(new, self.language, self.name) for text, new in zip(texts, self(texts), strict=True)}

        def translated(caption: Caption) -> Caption:
            others = tuple(translated(other) for other in caption.alternatives)
            return replace(caption, alternatives=others, translation=made[caption.text])

        return [translated(caption) for caption in captions]

    def batches(self, batches: Iterable[dict[Path, Any]]) -> Iterator[dict[Path, Any]]:
        """Batches of captions, or of errors, by image, with translations beside the captions."""
        for batch in batches:
            places = [image for image, found in batch.items() if isinstance(found, Caption)]
            made = self.captions([batch[place] for place in places])
            yield batch | dict(zip(places, made, strict=True))

    def _translate(self, texts: Sequence[str]) -> list[str]:
        import torch

        with self._lock:
            model, tokenizer = self._loaded()
            with torch.inference_mode(), explain_memory(self.name, weight_bytes(self._folder)):
                inputs = tokenizer([self._code + text for text in texts], return_tensors="pt", padding=True)
                made = model.generate(**inputs.to(model.device), max_new_tokens=LONGEST)
            spelt = tokenizer.batch_decode(made, skip_special_tokens=True)
        return [one_line(text) for text in spelt]

    def _loaded(self) -> "tuple[MarianMTModel, MarianTokenizer]":
        if self._parts is None:
            tokenizer = load_processor("MarianTokenizer", str(self._folder), offline=True)
            self._code = target_code(tokenizer.supported_language_codes, self.language, self.name)
            self._parts = load_model("MarianMTModel", str(self._folder), offline=True), tokenizer
        return self._parts


def open_translator(
    language: str,
    given: str = "",
    *,
    offline: bool,
    consent: Consent | None = None,
    tell: Tell = tell_terminal,
) -> Translator:
    """The translator into a language: of a folder or a name on the hub, or the one that is usual for the language."""
    if not is_language(language):
        raise CaptioningError(f"{language} is no language; a code such as vi or zh-hant, in lower case, was expected.")
    with explain_missing_packages():
        for module in NEEDED:
            if importlib.util.find_spec(module) is None:
                raise ModuleNotFoundError(f"{module} is not installed", name=module)
    name = given or default_model(language)
    folder = folder_of(name, offline=offline, consent=consent)
    kind = check_folder(folder)["model_type"]
    if kind != "marian":
        raise BundleError(f"{name} is a model of type {kind}, not a translator; a Marian model was expected.")
    missing = [each for each in ("source.spm", "target.spm", "vocab.json") if not (folder / each).is_file()]
    if missing:
        raise BundleError(f"{folder} has no {missing[0]}: it is not whole; copy or download the model again.")
    shown = folder.name if os.path.isdir(os.path.expanduser(name)) else name.partition("@")[0]
    cache = TranslationCache(_identity(folder), language, tell=tell)
    return Translator(shown, folder, language, cache=cache)


def _identity(folder: Path) -> str:
    """What a translation depends on: the folder, which names the commit of a model of the hub, and its weights' age."""
    weights = max(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns).stat()
    return f"{folder.resolve()} {weights.st_size} {weights.st_mtime_ns}"


class TranslatedCaptioner:
    """A captioner and translators for languages that it does not have; all else is the captioner's own."""

    def __init__(self, captioner: AnyCaptioner, translators: Sequence[Translator]) -> None:
        self.captioner, self.options = captioner, captioner.options
        self.translators = {each.language: each for each in translators}

    def __getattr__(self, name: str) -> Any:
        own = getattr(vars(self)["captioner"], name)
        return self._caption_features if name == "caption_features" else own  # which not every captioner has

    def describe(self) -> Description:
        """Its name, its licence, its size and its languages; the translated ones are not among these."""
        return self.captioner.describe()

    def speaking(self, language: str) -> AnyCaptioner:
        """The captioner of one of its languages; of a translated one itself."""
        own = getattr(self.captioner, "speaking", None)
        return self if self._translator(language) else own(language) if own else self.captioner

    def caption(self, images: Any, options: DecodeOptions | None = None, **settings: Any) -> Any:
        """The Caption of one image, or a list of Captions; see Captioner.caption."""
        changes = {name: settings.pop(name) for name in DecodeOptions.__dataclass_fields__ if name in settings}
        options = changed(options or self.options, **changes)
        found = self.captioner.caption(images, self.own_options(options), **settings)
        several = isinstance(images, list | tuple)
        made = self._translated(found if several else [found], options)
        return made if several else made[0]

    def worded(self, caption: Caption, language: str) -> Caption:
        """A caption that was put together from words of the captioner, translated where the language is."""
        translator = self._translator(language)
        return translator.captions([caption])[0] if translator else caption

    def own_options(self, options: DecodeOptions) -> DecodeOptions:
        """The options with the language that is translated from in place of a translated one."""
        language = options.language
        if has_language(self.captioner, language):
            return options
        if language not in self.translators:
            known = ", ".join(languages_of(self.captioner)) or "one language that it does not state"
            raise CaptioningError(
                f"This captioner has captions in {known} and translations into {', '.join(self.translators)}; "
                f"--language {language} cannot be used."
            )
        return replace(options, language=english_of(self.captioner))

    def _caption_features(
        self, features: "np.ndarray", options: DecodeOptions | None = None, **settings: Any
    ) -> list[Caption]:
        assert encodes_apart(self.captioner)
        options = options or self.options
        found = self.captioner.caption_features(features, self.own_options(options), **settings)
        return self._translated(found, options)

    def _translator(self, language: str) -> Translator | None:
        return None if has_language(self.captioner, language) else self.translators.get(language)

    def _translated(self, found: Sequence[Any], options: DecodeOptions) -> list[Any]:
        translator = self._translator(options.language)
        if not translator:
            return list(found)
        made = iter(translator.captions([each for each in found if isinstance(each, Caption)]))
        return [next(made) if isinstance(each, Caption) else each for each in found]


def languages_of(captioner: AnyCaptioner) -> tuple[str, ...]:
    """The languages of a captioner's own captions, as far as it states them."""
    return tuple(captioner.describe().languages)


def has_language(captioner: AnyCaptioner, language: str) -> bool:
    """Whether captions in a language need no translation. One that states no language counts as English."""
    return language in ("", *(languages_of(captioner) or (ENGLISH,)))


def english_of(captioner: AnyCaptioner) -> str:
    """English as the options of this captioner name it; refused where it has other languages alone."""
    known = languages_of(captioner)
    if known and ENGLISH not in known:
        raise CaptioningError(
            f"{captioner.describe().name} has captions in {', '.join(known)}; only English ones are translated, so "
            "choose another captioner or one of these languages."
        )
    return ENGLISH if known[1:] and known[0] != ENGLISH else ""


def translated_captioner(
    captioner: AnyCaptioner,
    language: str,
    given: str = "",
    *,
    offline: bool,
    consent: Consent | None = None,
    tell: Tell = tell_terminal,
) -> AnyCaptioner:
    """The captioner itself where it has the language, else with a translator for it."""
    if has_language(captioner, language):
        if given:
            tell(
                f"{captioner.describe().name} has captions in {language or 'its own language'}: nothing is translated."
            )
        return captioner
    english_of(captioner)
    try:
        translator = open_translator(language, given, offline=offline, consent=consent, tell=tell)
    except CaptioningError as error:
        known = ", ".join(languages_of(captioner)) or "one language that it does not state"
        extra = "" if isinstance(error, MissingExtra) else " with the extra hf"
        raise type(error)(
            f"{captioner.describe().name} has captions in {known}, and {language} needs a translation{extra}: {error}"
        ) from None
    return TranslatedCaptioner(captioner, [translator])
