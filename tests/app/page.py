"""A small page behind the guard, answered by a real server on a port, for the tests of what reaches a page."""

import asyncio
import contextlib
import socket

import gradio as gr
import httpx

from captioning.app import guard, server

USER = {"username": "ada", "password": "lovelace-1815"}


async def small_app(folder, credentials):
    """A page with a text that is turned round, and a picture that is handed on; built in a loop that is closed again"""
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("Secret.")
        text, image, button, found = gr.Textbox(), gr.Image(type="filepath"), gr.Button(), gr.Textbox()
        button.click(lambda said: said[::-1], text, found, api_name="turn")
        button.click(lambda path: path, image, found, api_name="picture")
        button.click(lambda said: said / 0, text, found, api_name="fail")
    return server.mounted(page.queue(api_open=False), credentials, str(folder))


@contextlib.contextmanager
def answering(folder, *, has_password=False):
    """A client of the page; what Gradio uploads is in the folder."""
    credentials = (USER["username"], USER["password"]) if has_password else None
    app = asyncio.run(small_app(folder, credentials))
    with socket.create_server(("127.0.0.1", 0)) as listener, server.running(app, listener):
        address = f"http://localhost:{listener.getsockname()[1]}"
        fresh = httpx.Limits(max_keepalive_connections=0)  # a busy server may close a kept one just then
        with httpx.Client(base_url=address, timeout=60, limits=fresh) as client:
            client.page = app.state.page
            client.guard = guard.Guard(None, page=client.page, folder=str(folder))  # alike, to ask without a server
            yield client


def status(client, method, path, **sent):
    """What a request is answered, without waiting for the end of the answer."""
    with client.stream(method, path, **sent) as answer:
        return answer.status_code
