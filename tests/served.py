"""The app in a process of its own, for the tests that load it, attack it and stop it, and how programs ask it."""

import asyncio
import contextlib
import io
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from captioning.options import DecodeOptions
from captioning.serving.session import values_of

ROOT = Path(__file__).parent.parent
API = "/gradio_api"
START = 300  # seconds that a busy machine may take to start it
SHORT_MEMORY = """
from captioning.app import guard, scratch
scratch.SWEEP, scratch.KEPT, scratch.EMPTY, guard.RECOUNT = 1, 4, 1, 0.5
"""
SCRIPT = "import sys, app_gradio\nsys.exit(app_gradio.main(sys.argv[1:]))"


class Served:
    """A running app: its process, where it is reached, where it keeps uploads, and the file of all that it prints."""

    def __init__(self, bundle, folder, flags, first, before):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        self.address, self.said, self.log = f"http://127.0.0.1:{port}", folder / "said.db", folder / "printed.txt"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        command = [*before, sys.executable, "-c", f"{first}\n{SCRIPT}", "--bundle", bundle, "--port", port]
        settings = os.environ | {"TMPDIR": str(self.scratch), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--feedback", self.said, *flags],
                stdout=log,
                stderr=log,
                env=settings,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def printed(self):
        return self.log.read_text(errors="replace")

    @property
    def uploads(self):
        """The files that it keeps for now."""
        return [Path(folder, name) for folder, _, names in os.walk(self.scratch) for name in names]

    def wait(self):
        end = time.monotonic() + START
        while "The app is on" not in self.printed:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < end, self.printed
            time.sleep(0.1)

    def stop(self):
        """Tells it to stop and waits; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def upload(self, name, data):
        """What the app calls a picture that was sent to it."""
        found = httpx.post(f"{self.address}{API}/upload", files={"files": (name, data)}, timeout=60)
        return {"path": found.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}

    async def ask(self, client, picture):
        """ "caption", "refused" or what else came of it, and the seconds that it took."""
        began = time.monotonic()
        asked = await client.post(f"{self.address}{API}/call/caption", json={"data": [picture, "small", {}]})
        said = "refused" if asked.status_code == 503 and "Queue is full" in asked.text else str(asked.status_code)
        if asked.status_code == 200:
            answer = await client.get(f"{self.address}{API}/call/caption/{asked.json()['event_id']}")
            said = "caption" if '"caption"' in answer.text and "event: complete" in answer.text else answer.text[-300:]
        return said, time.monotonic() - began


@contextlib.contextmanager
def served(bundle, folder, *flags, first="", before=()):
    """The app with a bundle, killed in the end; `first` is Python that runs before it, `before` a program around it."""
    folder.mkdir(exist_ok=True)
    app = Served(bundle, folder, flags, first, before)
    try:
        app.wait()
        yield app
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(app.process.pid, signal.SIGKILL)  # also what a program around it leaves
        app.process.wait(60)


class Person:
    """Somebody at the page: captions a picture there, and says what they think of it."""

    def __init__(self, app, client, picture):
        self.app, self.client, self.picture, self.session = app, client, picture, secrets.token_hex(8)
        self.handlers = {}

    async def do(self, name, data):
        """What the page says when a named handler of it is done."""
        if not self.handlers:
            known = (await self.client.get(f"{self.app.address}/config")).json()["dependencies"]
            self.handlers = {one["api_name"]: one["id"] for one in known}
        asked = {"fn_index": self.handlers[name], "data": data, "session_hash": self.session}
        (await self.client.post(f"{self.app.address}{API}/queue/join", json=asked)).raise_for_status()
        answer = await self.client.get(f"{self.app.address}{API}/queue/data", params={"session_hash": self.session})
        return answer.text

    async def look(self):
        """Has the picture captioned, so that there is something to say of it."""
        controls = values_of(DecodeOptions(num_captions=3, max_length=6))
        return await self.do("_on_picture", [self.picture, "small", 0, 1, None, 0, 0, 100, 100, *controls])

    async def say(self, comment):
        """The number under which it is kept; none if that was not promised."""
        kept = re.search(r"kept as entry (\d+)", await self.do("_send", [None, 5, "", comment]))
        return int(kept[1]) if kept else None


def many(job):
    """What a job comes to that is given a client which opens as many connections as it is asked to."""

    async def go():
        async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
            return await job(client)

    return asyncio.run(go())


def png(seed):
    """A small picture as a file, another for every seed."""
    file = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype="uint8")
    Image.fromarray(np.kron(coarse, np.ones((8, 8, 1), "uint8"))).save(file, "PNG")
    return file.getvalue()


def share(values, part):
    """The value that this part of the values stays below."""
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def seconds_of(kind, found):
    """How long those waited who were told this."""
    return [seconds for said, seconds in found if said == kind]
