"""Passwords cannot be guessed one after the other; who knows the password gets in after a while."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest

from captioning.app import login_throttle, server
from captioning.app.login_throttle import MOST, WINDOW, LoginThrottle

RIGHT, WRONG = {"username": "ada", "password": "lovelace"}, {"username": "ada", "password": "charles"}


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(login_throttle, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def guarded(clock):
    """Asks Gradio's own app behind the throttle, without a server."""
    import gradio

    async def build():  # in a loop that is closed again
        with gradio.Blocks(analytics_enabled=False) as page:
            gradio.Markdown("Secret.")
        page.auth, page.auth_message = [tuple(RIGHT.values())], None
        return gradio.routes.App.create_app(page, app_kwargs=dict(server.GUARD))

    app = asyncio.run(build())

    async def ask(form, address, path):
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await (client.post(path, data=form) if form else client.get(path))

    return lambda form, address="1.1.1.1", path="/login": asyncio.run(ask(form, address, path))


def test_ten_wrong_passwords_and_no_more(guarded, clock):
    assert [guarded(WRONG).status_code for _ in range(MOST)] == [400] * MOST
    clock.now += WINDOW - 40
    refused = guarded(RIGHT)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "40"
    assert refused.json() == {"detail": "Too many wrong passwords; wait 40 seconds."}
    assert guarded(RIGHT, path="/login/").status_code == 429
    clock.now += 40
    assert guarded(RIGHT).status_code == 200


def test_others_get_in_meanwhile_and_the_page_is_asked_for_as_before(guarded):
    for _ in range(MOST):
        guarded(WRONG)
    assert guarded(RIGHT, "2.2.2.2").status_code == 200
    assert guarded(None, path="/").status_code == 200
    assert guarded(None, path="/config").status_code == 401


def test_right_passwords_do_not_count(guarded):
    assert {guarded(RIGHT).status_code for _ in range(2 * MOST)} == {200}
    assert guarded(WRONG).status_code == 400


def test_guesses_at_the_same_moment_all_count(clock):
    async def slow(scope, receive, send):
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body"})

    app = LoginThrottle(slow)

    async def all_at_once():
        transport = httpx.ASGITransport(app, client=("1.1.1.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await asyncio.gather(*(client.post("/login") for _ in range(5 * MOST)))

    found = [answer.status_code for answer in asyncio.run(all_at_once())]
    assert sorted(found) == [400] * MOST + [429] * 4 * MOST


def test_no_address_is_remembered_for_ever(clock):
    async def nothing(*_):
        pass

    app = LoginThrottle(nothing)
    login = {"type": "http", "method": "POST", "path": "/login"}
    for number in range(99):
        asyncio.run(app(login | {"client": (f"1.1.1.{number}", 1)}, nothing, nothing))
    assert len(app._tries) == 99
    clock.now += WINDOW
    asyncio.run(app(login | {"client": ("2.2.2.2", 1)}, nothing, nothing))
    assert list(app._tries) == ["2.2.2.2"]
