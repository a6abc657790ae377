"""Published models are refused unless they are whole safetensors files without code; downloads need consent."""

import json
import struct
from types import SimpleNamespace

import pytest

from captioning.errors import BundleError, DownloadError
from captioning.extras import hf_hub
from captioning.extras.hf_files import check_folder, size_text, weight_bytes
from captioning.extras.hf_hub import folder_of

NAME = "someone/some-model"


def tensors(count=4):
    head = json.dumps({"weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(4 * count)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "blip"}')
    (folder / "model.safetensors").write_bytes(tensors())
    return folder


def http_client():
    """The module from which the hub's client raises what goes wrong with a request."""
    import importlib

    from huggingface_hub import utils

    return getattr(utils, "httpx", None) or importlib.import_module("httpx")


@pytest.fixture
def online(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hf_hub, "cached_folder", lambda name, revision="": None)


def refusal(folder):
    with pytest.raises(BundleError) as caught:
        check_folder(folder)
    return str(caught.value)


def test_a_whole_model_is_taken(model):
    assert check_folder(model)["model_type"] == "blip"
    assert folder_of(str(model), offline=True) == model
    assert weight_bytes(model) == len(tensors())


def test_a_folder_that_is_no_model_is_refused(model):
    (model / "config.json").write_text('{"format": 1}')
    assert "no model_type" in refusal(model)
    (model / "config.json").write_text("{")
    assert "cannot be read" in refusal(model)
    (model / "config.json").unlink()
    assert "is no model" in refusal(model)


def test_a_pickle_is_refused_also_where_an_index_names_it(model):
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    assert "pytorch_model.bin, a pickle" in refusal(model)
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"weight": "pytorch_model.bin"}}')
    assert "no safetensors files" in refusal(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_model_with_code_of_its_own_is_refused(model, name):
    (model / name).write_text('{"model_type": "blip", "auto_map": {"AutoModel": "own--code.Model"}}')
    assert f"auto_map in {name}" in refusal(model)


@pytest.mark.parametrize("length", [0, 4, 30, len(tensors()) - 1, len(tensors()) + 1])
def test_half_a_download_is_refused(model, length):
    (model / "model.safetensors").write_bytes((tensors() + b"x")[:length])
    assert "is not whole" in refusal(model)


def test_a_missing_part_of_the_weights_is_named(model):
    parts = {"weight": "model-00001-of-00002.safetensors", "bias": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors").rename(model / parts["weight"])
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    assert "model-00002-of-00002.safetensors is missing" in refusal(model)
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"weight": "../model.safetensors"}}')
    assert "no safetensors files" in refusal(model)


@pytest.mark.parametrize("name", ["nothing/at/all", "nothing", "./some/model"])
def test_what_is_neither_a_folder_nor_a_name_is_refused(name):
    with pytest.raises(BundleError, match="There is no folder"):
        folder_of(name, offline=True)


def test_offline_nothing_is_asked_for_and_nothing_is_fetched(online, monkeypatch):
    monkeypatch.setattr(hf_hub, "ask", lambda question: pytest.fail("asked"))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(DownloadError, match="captioners --download someone/some-model"):
        folder_of(NAME, offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="nothing is downloaded offline"):
        folder_of(NAME, offline=False)


def hub(monkeypatch, *files):
    listed = [SimpleNamespace(rfilename=name, size=size) for name, size in files]
    about = SimpleNamespace(sha="0123456789abcdef", siblings=listed)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: about)
    monkeypatch.setattr("huggingface_hub.HfApi.get_repo_discussions", lambda *_, **__: iter(()))
    fetched = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: fetched.append(how) or fetched[0]["to"]
    )
    return fetched


def test_consent_is_asked_with_the_size_of_what_is_fetched(online, monkeypatch):
    files = ("config.json", 500), ("model.safetensors", 2_000_000_000), ("tf_model.h5", 10**10), ("onnx/model.json", 9)
    fetched, asked = hub(monkeypatch, *files), []
    with pytest.raises(DownloadError, match="was not downloaded"):
        folder_of(NAME, offline=False, consent=lambda question: bool(asked.append(question)))
    assert asked == [f"{NAME} (2.0 GB, revision 01234567) has to be downloaded from huggingface.co."]
    assert not fetched


def test_what_is_fetched_is_one_commit_that_is_kept(online, monkeypatch, model, tmp_path):
    hub(monkeypatch, ("config.json", 5), ("model.safetensors", 10))
    cache = tmp_path / "models--x" / "snapshots" / "0123456789abcdef"
    cache.parent.mkdir(parents=True)
    model.rename(cache)
    wanted = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **how: wanted.update(how) or str(cache))
    assert folder_of(f"{NAME}@main", offline=False, consent=lambda question: True) == cache
    assert wanted["revision"] == "0123456789abcdef"
    assert "*.safetensors" in wanted["allow_patterns"]
    assert not {"*.bin", "*.py"} & set(wanted["allow_patterns"])
    assert (tmp_path / "models--x" / "refs" / "main").read_text() == "0123456789abcdef"


def test_a_model_of_pickles_is_refused_before_anything_is_fetched(online, monkeypatch):
    fetched = hub(monkeypatch, ("config.json", 500), ("pytorch_model.bin", 10**9))
    with pytest.raises(BundleError, match="no weights in safetensors"):
        folder_of(NAME, offline=False, consent=lambda question: True)
    assert not fetched


def test_of_a_model_of_pickles_what_the_hub_converted_is_taken(online, monkeypatch, model, tmp_path):
    cache = tmp_path / "models--x" / "snapshots" / "fedcba9876543210"
    cache.parent.mkdir(parents=True)
    model.rename(cache)

    def about(_, name, *, revision=None, **__):
        file = "model.safetensors" if revision == "refs/pr/9" else "pytorch_model.bin"
        commit = "fedcba9876543210" if revision else "0123456789abcdef"
        return SimpleNamespace(sha=commit, siblings=[SimpleNamespace(rfilename=file, size=10**6)])

    proposals = [
        SimpleNamespace(num=9, author="SFconvertbot", status="open"),
        SimpleNamespace(num=10, author="SFconvertbot", status="closed"),
        SimpleNamespace(num=11, author="somebody", status="open"),
    ]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", about)
    monkeypatch.setattr("huggingface_hub.HfApi.get_repo_discussions", lambda *_, **__: iter(proposals))
    wanted, asked = {}, []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **how: wanted.update(how) or str(cache))
    assert folder_of(NAME, offline=False, consent=lambda question: asked.append(question) or True) == cache
    assert (wanted["revision"], "revision fedcba98" in asked[0]) == ("fedcba9876543210", True)
    assert (tmp_path / "models--x" / "refs" / "main").read_text() == "fedcba9876543210"
    with pytest.raises(BundleError, match="no weights in safetensors"):  # a revision that was named is the one taken
        folder_of(f"{NAME}@main", offline=False, consent=lambda question: True)


def test_without_a_network_the_sentence_says_so(online, monkeypatch):
    httpx = http_client()

    def unreachable(*_, **__):
        raise httpx.ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(DownloadError, match=r"could not be fetched .*check the network"):
        folder_of(NAME, offline=False)


def test_where_nobody_can_be_asked_nothing_is_fetched(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(DownloadError, match="Nobody can be asked"):
        hf_hub.ask("It has 2 GB.")


@pytest.mark.parametrize(("line", "consents"), [("y\n", True), ("yes\n", True), ("\n", False), ("n\n", False)])
def test_a_terminal_is_asked(monkeypatch, line, consents):
    terminal = SimpleNamespace(isatty=lambda: True, readline=lambda: line)
    shown = SimpleNamespace(isatty=lambda: True, write=lambda text: None, flush=lambda: None)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("sys.stderr", shown)
    assert hf_hub.ask("It has 2 GB.") is consents


def test_sizes_are_readable():
    assert [size_text(size) for size in (47_312, 21_500_000, 1_785_161_968)] == ["47 kB", "21.5 MB", "1.8 GB"]
