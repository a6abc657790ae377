"""The engine of ONNX Runtime: three graphs of a bundle, and the search on NumPy arrays. It needs no Keras."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from captioning.data.tokenizer import END, PAD
from captioning.decoder.config import ModelConfig
from captioning.decoder.ensemble import Ensemble
from captioning.decoder.operations import on_numpy
from captioning.decoder.search import SearchResult, SearchRules, decode, search_inputs
from captioning.errors import BundleError, MissingExtra
from captioning.inference.engine import State
from captioning.inference.graph_file import validate_graph

if TYPE_CHECKING:
    import onnxruntime

GRAPHS = ("encoder.onnx", "start.onnx", "step.onnx")
AT_ONCE = 8  # images that are encoded together; more take memory and no less time
MOST_MEMORY = 3 * 2**30  # bytes of all graphs' results together, whatever a graph asks for
WORTHWHILE = 0.9  # of the images: with more captions unfinished, leaving out the others saves no time
MISSING = "ONNX Runtime is not installed, which captions without Keras; install it: pip install onnxruntime."


def is_installed() -> bool:
    """Whether ONNX Runtime can be imported."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


Runner = Callable[[Sequence[str], dict[str, np.ndarray]], list[np.ndarray]]  # outputs wanted, inputs -> outputs


class GraphModel:
    """The three graphs of a bundle in any format: `encode`, and `start` and `step` as the search calls them."""

    def __init__(self, config: ModelConfig, encoder: Runner, start: Runner, step: Runner) -> None:
        self.config = config
        self._encoder, self._start, self._step = encoder, start, step

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """The features (B, L, D) of images (B, H, W, 3), 0 to 255."""
        parts = [pixels[first : first + AT_ONCE] for first in range(0, len(pixels), AT_ONCE)]
        grids = [self._encoder(("grid",), {"images": np.asarray(part, "float32")})[0] for part in parts]
        return np.concatenate(grids)

    def prove(self, picture: np.ndarray) -> np.ndarray:
        """The grid of a picture; refused where it or the first word's probabilities are not what the config says."""
        config = self.config
        grid = self.encode(picture[None])
        if grid.shape[1:] == (config.num_regions, config.feature_depth):
            log_probs, state, attention = self.step(np.ones((1, 1), "int32"), self.start(grid))
            shapes = {attention.shape: (1, 1, config.num_regions), log_probs.shape: (1, 1, config.vocabulary_size)}
            is_right = all(found == wanted for found, wanted in shapes.items())
            if is_right and all(np.isfinite(each).all() for each in (log_probs, *state)):
                return grid[0]
        raise BundleError("The graphs of the bundle compute something else than its config.json says; copy it again.")

    def start(self, features: np.ndarray, num_rows: int = 1, where: np.ndarray | None = None) -> State:
        """The state before the first word; where (B, L) is part of it."""
        features = np.asarray(features, "float32")
        where = np.ones(features.shape[:2], bool) if where is None else where.astype(bool)
        outputs = ("keys", "values", "hidden", "cell")
        keys, values, hidden, cell = self._start(outputs, {"grid": features, "where": where})
        rows = [np.repeat(part, num_rows, axis=1) for part in (hidden, cell)]
        return keys, values, *rows, where[:, None]

    def step(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State, np.ndarray]:
        """One step: log-probabilities (B, R, V), the next state, attention (B, R, L)."""
        keys, values, hidden, cell, where = state
        names = ("keys", "values", "hidden", "cell", "where")
        inputs = {"tokens": np.asarray(tokens, "int32"), **dict(zip(names, state, strict=True))}
        log_probs, hidden, cell, attention = self._step(("log_probs", "hidden_out", "cell_out", "attention"), inputs)
        return log_probs, (keys, values, hidden, cell, where), attention


class OnnxModel(GraphModel):
    """The graphs run by ONNX Runtime; those that refer to a bundle's weights file are handed its contents."""

    def __init__(
        self, graphs: Mapping[str, bytes], config: ModelConfig, files: Mapping[str, bytes], *, is_ours: bool = False
    ) -> None:
        if not is_ours:  # just made by an export, with its weights inside
            for name in GRAPHS:
                _validate(name, graphs[name], files)
        super().__init__(config, *(_runner(name, graphs[name], files) for name in GRAPHS))

    def speaking(self, num_words: int, graphs: Mapping[str, bytes], files: Mapping[str, bytes]) -> GraphModel:
        """The model of a further language: the same encoder with a start and a step of its own."""
        runners = []
        for name, graph in graphs.items():
            _validate(name, graph, files)
            runners.append(_runner(name, graph, files))
        start, step = runners
        return GraphModel(replace(self.config, vocabulary_size=num_words), self._encoder, start, step)


class OnnxEngine:
    """A model, or an ensemble of several, and the encoders of its features."""

    name = "onnx"
    has_one_size = False

    def __init__(self, model: "GraphModel | Ensemble", encoders: Sequence[GraphModel]) -> None:
        self.model, self._encoders = model, encoders
        self.num_regions: int = model.config.num_regions

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """The features (B, L, D) of images (B, H, W, 3), 0 to 255."""
        return np.concatenate([encoder.encode(pixels) for encoder in self._encoders], axis=-1)

    def search(
        self,
        features: np.ndarray,
        rules: SearchRules,
        *,
        is_full: bool = False,
        prefix: np.ndarray | None = None,
        where: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> SearchResult:
        """The captions found, in features or in images."""
        features = self.encode(features) if features.ndim == 4 else features
        prefix, noise = search_inputs(rules, len(features), prefix, rng)
        start, step = functools.partial(self.model.start, where=where), functools.partial(_step, self.model)
        with on_numpy():
            return decode(start, step, features, rules, prefix=prefix, noise=noise, num_regions=self.num_regions)

    def start(self, features: np.ndarray, where: np.ndarray | None = None) -> State:
        """The state before the first word, for one caption of each image."""
        with on_numpy():
            return self.model.start(features, 1, where)

    def step(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Log-probabilities (B, 1, V) of the words after these (B, 1), and the next state."""
        with on_numpy():
            log_probs, state, _ = self.model.step(tokens, state)
        return log_probs, state


def _step(model: "GraphModel | Ensemble", tokens: np.ndarray, state: State) -> tuple[np.ndarray, State, np.ndarray]:
    """The model's step, but for images whose captions have all ended: the search ignores what follows."""
    alive = ~np.isin(tokens, (END, PAD)).all(axis=1)
    if alive.mean() > WORTHWHILE or not alive.any():
        return model.step(tokens, state)
    found, changed, seen = model.step(tokens[alive], tuple(part[alive] for part in state))
    log_probs = np.zeros((len(tokens), *found.shape[1:]), found.dtype)
    attention = np.zeros((len(tokens), *seen.shape[1:]), seen.dtype)
    log_probs[alive], attention[alive] = found, seen
    follows = []
    for before, after in zip(state, changed, strict=True):
        if after.shape[1] > 1 or tokens.shape[1] == 1:  # not shared by all captions of an image
            before = before.copy()
            before[alive] = after
        follows.append(before)
    return log_probs, tuple(follows), attention


def _runner(name: str, graph: bytes, files: Mapping[str, bytes]) -> Runner:
    session = _session(name, graph, files)
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    def run(outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return session.run(outputs, inputs)
        except (errors.RuntimeException, errors.InvalidArgument, errors.Fail, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BundleError(f"{name} cannot be computed ({reason}); copy the bundle again.") from None

    return run


@functools.cache
def _bound_memory() -> None:
    """Lets all sessions of this process take their memory from one arena of limited size."""
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    grows_as_needed = {"max_mem": MOST_MEMORY, "arena_extend_strategy": 1}
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(grows_as_needed))


def _session(name: str, graph: bytes, files: Mapping[str, bytes]) -> "onnxruntime.InferenceSession":
    """A session of a graph; it opens no file, since it is handed their contents."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra(MISSING) from None
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    _bound_memory()
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.enable_mem_pattern = False  # it keeps a block for every batch size
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores alone
        if files:
            sizes = [len(data) for data in files.values()]
            options.add_external_initializers_from_files_in_memory(list(files), list(files.values()), sizes)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except (ValueError, errors.Fail, errors.InvalidGraph, errors.InvalidProtobuf, errors.RuntimeException) as error:
        raise _refused(name, error) from None


def _validate(name: str, graph: bytes, files: Mapping[str, bytes]) -> None:
    try:
        validate_graph(graph, {each: len(data) for each, data in files.items()})
    except ValueError as error:
        raise _refused(name, error) from None


def _refused(name: str, error: Exception) -> BundleError:
    reason = str(error).splitlines()[0]
    return BundleError(f"{name} is no graph of a captioner ({reason}); write it again with captioning export BUNDLE.")
