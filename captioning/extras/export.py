"""Writes a bundle's graphs: into the bundle, for ONNX Runtime, or as files of their own, for phones and browsers.

Every export captions pictures beside the bundle first. The result is stored with it, in config.json or captioner.json.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.errors import CaptioningError, MissingExtra
from captioning.extras import graph_weights, graphs, proof
from captioning.inference import bundle
from captioning.inference.bundle_files import CONFIG, config_text, read_config
from captioning.inference.captioner import Captioner
from captioning.inference.engine_onnx import GRAPHS, GraphModel, OnnxEngine, OnnxModel
from captioning.inference.languages import graph_files, numbers_file, read_languages
from captioning.runtime import strict_json
from captioning.runtime.files import atomic_write

if TYPE_CHECKING:
    from captioning.extras.graphs import Store

NEEDED = "Graphs are written with onnx and onnxruntime; install them: pip install onnx onnxruntime."
DESCRIPTION = "captioner.json"
Score = Callable[[Captioner], dict[str, float]]


def require_onnx() -> None:
    """Raise MissingExtra where onnx or onnxruntime is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingExtra(NEEDED) from None


def into_bundle(folder: Path, captioner: Captioner | None = None) -> str:
    """Write the graphs into a bundle; return a sentence about it. `captioner` is the bundle's own, if it is loaded."""
    require_onnx()
    saved = _require_whole(folder)
    ours = captioner or bundle.load(folder, engine="keras")
    written = _graphs(ours, dict.fromkeys(GRAPHS, graph_weights.InFile(folder / bundle.WEIGHTS)))
    weights = (folder / bundle.WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != saved.files[bundle.WEIGHTS]:
        raise CaptioningError(f"{folder}/{bundle.WEIGHTS} has changed meanwhile; export it again.")
    model = OnnxModel(written, saved.model, {bundle.WEIGHTS: weights})
    found = proof.prove(ours, _captioner(ours, model))
    proof.require(found.is_equal, found, "ONNX Runtime")
    languages = {code: _language(folder, saved, ours, model, code, weights) for code in saved.languages}
    proofs = {code: facts for code, (_, facts) in languages.items()}
    for files, _ in languages.values():
        written |= files
    config = read_config(folder)
    others = {name: digest for name, digest in config["files"].items() if name not in written}
    if config.pop("graphs", None):  # a kill during the next writes leaves a bundle without graphs
        atomic_write(folder / CONFIG, config_text(config | {"files": others}))
    for name, data in written.items():
        atomic_write(folder / name, data)
    facts = {"weights": others[bundle.WEIGHTS], "proof": found.facts(), "made_with": _versions()}
    facts |= {"languages": proofs} if proofs else {}
    files = others | {name: hashlib.sha256(data).hexdigest() for name, data in written.items()}
    atomic_write(folder / CONFIG, config_text(config | {"files": files, "graphs": facts}))
    size = sum(map(len, written.values())) / 1e6
    return f"Wrote the graphs of {folder} ({size:.2f} MB): {found.text()}."


def _language(
    folder: Path, saved: bundle.Saved, ours: Captioner, model: OnnxModel, code: str, weights: bytes
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The graphs of a further language, and their proof."""
    language = read_languages(folder, {code: saved.languages[code]}, ours.model, lambda _: None)[code]
    name = numbers_file(code)
    store = graph_weights.InFile(folder / bundle.WEIGHTS).add(name, language.numbers.values())
    start, step = graph_files(code)
    written = {
        start: graphs.start_graph(ours.model, store, language.numbers).SerializeToString(deterministic=True),
        step: graphs.step_graph(ours.model, store, language.numbers).SerializeToString(deterministic=True),
    }
    files = {bundle.WEIGHTS: weights, name: bundle.read_listed(folder, name)}
    theirs = language.captioner(ours, code)
    found = proof.prove(theirs, _captioner(theirs, model.speaking(len(language.tokenizer), written, files)))
    proof.require(found.is_equal, found, f"ONNX Runtime in {code}")
    return written, found.facts()


def after_training(folder: Path, captioner: Captioner) -> str:
    """The graphs of a bundle that a training has just saved; a sentence, also where they could not be written."""
    try:
        return into_bundle(folder, captioner)
    except CaptioningError as error:
        return f"{folder} captions with Keras only: {error}"


def to_folder(folder: Path, output: Path, kind: str = "onnx", *, int8: bool = False, score: Score | None = None) -> str:
    """Write a bundle as files that need nothing else; return a line about each."""
    require_onnx()
    saved = _require_whole(folder)
    ours = bundle.load(folder, engine="keras")
    stores: dict[str, Store] = dict.fromkeys(GRAPHS, graph_weights.inside_as_half)
    files = _graphs(ours, stores)
    notes: list[str] = []
    if kind != "onnx":
        from captioning.extras import export_formats

        files, model = export_formats.CONVERT[kind](files, saved.model)
    else:
        files = _in_bytes(ours, saved, files, notes) if int8 else files
        model = OnnxModel(files, saved.model, {}, is_ours=True)
    exported = _captioner(ours, model)
    found = proof.prove(ours, exported)
    if score:
        found = replace(found, scores={"bundle": score(ours), "export": score(exported)})
    proof.require(found.is_alike if int8 else found.is_equal, found, f"{kind}{' in 8 bits' if int8 else ''}")
    description = _describe(ours, saved, files, kind, found, notes)
    for name, data in files.items():
        atomic_write(output / name, data)
    atomic_write(output / DESCRIPTION, strict_json.dumps(description, indent=1))
    lines = [f"{output / name}  {len(data) / 1e6:.2f} MB" for name, data in files.items()]
    return "\n".join([*lines, f"{output / DESCRIPTION}  sizes, words, search and proof", *notes, f"{found.text()}."])


def _in_bytes(ours: Captioner, saved: bundle.Saved, files: Mapping[str, bytes], notes: list[str]) -> dict[str, bytes]:
    """The files with what can be rounded to 8 bits: the step's products, and the encoder's weights where that holds."""
    from captioning.extras.quantization import quantized

    whole = _graphs(ours, {"step.onnx": graph_weights.inside})
    small = {**files, "step.onnx": quantized(whole["step.onnx"])}
    smaller = {**small, **_graphs(ours, {"encoder.onnx": graph_weights.inside_as_bytes})}
    found = proof.prove(ours, _captioner(ours, OnnxModel(smaller, saved.model, {}, is_ours=True)))
    if found.is_alike:
        return smaller
    notes.append(f"The encoder stays in 16 bits; with weights of 8 bits: {found.text()}.")
    return small


def _require_whole(folder: Path) -> bundle.Saved:
    saved = bundle.check(folder)
    if not (saved.is_trained and saved.is_whole):
        raise CaptioningError(
            f"{folder} does not hold its whole encoder, which graphs need; "
            "train it with its encoder (--fine-tune-epochs, without --without-encoder)."
        )
    return saved


def _graphs(captioner: Captioner, stores: Mapping[str, "Store"]) -> dict[str, bytes]:
    build: dict[str, Callable[..., Any]] = {
        "encoder.onnx": lambda store: graphs.encoder_graph(captioner.encoder, store),
        "start.onnx": lambda store: graphs.start_graph(captioner.model, store),
        "step.onnx": lambda store: graphs.step_graph(captioner.model, store),
    }
    return {name: build[name](store).SerializeToString(deterministic=True) for name, store in stores.items()}


def _captioner(ours: Captioner, model: GraphModel) -> Captioner:
    return Captioner(OnnxEngine(model, [model]), ours.tokenizer, image_size=ours.image_size, options=ours.options)


def _describe(
    ours: Captioner, saved: bundle.Saved, files: Mapping[str, bytes], kind: str, found: proof.Proof, notes: list[str]
) -> dict[str, Any]:
    """What another program needs to know, beside the files."""
    return {
        "format": kind,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
        "image_size": ours.image_size,
        "model": asdict(saved.model),
        "words": list(ours.tokenizer.words),
        "decoding": asdict(saved.decoding),
        "calibration": asdict(saved.calibration) if saved.calibration else None,
        "weights": saved.files[bundle.WEIGHTS],
        "proof": found.facts(),
        "notes": notes,
        "made_with": _versions(),
    }


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
