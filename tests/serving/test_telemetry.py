"""Figures have what the dashboard shows, and Sentry is told of a failure without anything that was sent."""

import json
import re

import pytest

from captioning.errors import CaptioningError
from captioning.serving import telemetry
from captioning.serving.telemetry import scrubbed, start_sentry
from tests.serving.service import ROOT, asked, sent

DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8"))


def test_every_figure_of_the_dashboard_exists(client):
    client.post("/v1/captions", files=sent(1))
    client.post("/v1/captions", files=sent(1), data={"num_beam": "1"})
    figures = set(re.findall(r"^([a-z_]+)", client.get("/metrics").text, re.MULTILINE))
    shown = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    names = set(re.findall(r"\b(?:captioning|process)_[a-z_]+", shown))
    assert len(names) > 10
    assert names <= figures


def test_sentry_is_told_where_it_failed_and_nothing_else(box, tmp_path, monkeypatch):
    sentry = pytest.importorskip("sentry_sdk")
    events = []

    class Kept(sentry.Transport):
        def capture_envelope(self, envelope):
            events.extend(item.payload.json for item in envelope.items)

    start_sentry("https://key@sentry.invalid/1", transport=Kept)
    try:
        with asked(box, tmp_path) as client:
            monkeypatch.setattr(client.service.batcher, "search", lambda *sent: 1 / 0)
            found = client.post("/v1/captions", files=[("images", ("secret.jpg", b"secret"))])
            sentry.flush()
            figures = client.get("/metrics").text
    finally:
        sentry.init()
    assert (found.status_code, found.json()["code"]) == (500, "failed")
    assert "captioning_failures_total 1.0" in figures
    text = json.dumps(events, default=str)
    assert "ZeroDivisionError" in text
    assert found.json()["request_id"] in text
    assert "secret" not in text
    assert "division by zero" not in text


def test_an_event_keeps_kinds_and_lines_alone():
    frames = [{"filename": "a.py", "abs_path": "/home/ada/a.py", "function": "f", "lineno": 3, "vars": {"x": "secret"}}]
    failure = {"type": "ValueError", "value": "secret", "stacktrace": {"frames": frames}}
    event = {"event_id": "1", "request": {"data": "secret"}, "server_name": "ada", "exception": {"values": [failure]}}
    kept = scrubbed(event | {"breadcrumbs": ["secret"], "user": {"ip": "1"}, "tags": {"request_id": "2"}}, {})
    place = {"filename": "a.py", "function": "f", "lineno": 3, "module": None}
    told = {"type": "ValueError", "value": "", "stacktrace": {"frames": [place]}}
    assert kept == {"event_id": "1", "tags": {"request_id": "2"}, "exception": {"values": [told]}}


def test_a_wrong_address_of_sentry_is_refused():
    pytest.importorskip("sentry_sdk")
    with pytest.raises(CaptioningError, match="no DSN"):
        start_sentry("nonsense")


def test_a_service_without_a_log_is_quiet(capsys):
    from captioning.serving.gate import Told

    telemetry.Telemetry().tell(Told("1", "GET"))
    assert capsys.readouterr().out == ""
