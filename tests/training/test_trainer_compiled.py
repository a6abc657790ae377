"""A training that is compiled, as a person's is: once, and as exactly gone on with as one that is not."""

from pathlib import Path

import keras
import pytest

from captioning.decoder.model import CaptionModel
from captioning.errors import Stopped
from captioning.training.optimization import SmoothedCrossEntropy
from tests.training.test_trainer import Interruption, interrupt, phase, run_in, state

pytestmark = pytest.mark.whole


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch traces nothing")
def test_no_retracing_between_epochs(tmp_path, monkeypatch):
    run, traces, traced, call = run_in(tmp_path, kind=CaptionModel), [], [], SmoothedCrossEntropy.call
    monkeypatch.setattr(SmoothedCrossEntropy, "call", lambda *given: traced.append(1) or call(*given))
    run.train([phase(run, after=lambda: traces.append(len(traced)))])
    assert traces[0] == traces[-1] > 0


def test_stopped_and_resumed_compiled(tmp_path):
    def go(folder: Path, *callbacks) -> dict:
        run = run_in(folder, kind=CaptionModel, callbacks=callbacks)
        return state(run, run.train([phase(run, 2)]))

    usual = go(tmp_path / "usual")
    with pytest.raises(Stopped):
        go(tmp_path / "stopped", Interruption(3, interrupt))
    assert go(tmp_path / "stopped") == usual
