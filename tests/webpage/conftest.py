"""The page's own modules run by Node.js; skipped where that is absent."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
READ = "const given = JSON.parse(await new Response(process.stdin).text());"


@pytest.fixture
def node():
    """Runs a script on what it is `given`; returns the value that the script calls `found`."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("no Node.js")

    def run(module: str, script: str, given: object) -> object:
        names, _, body = script.partition(";")
        source = f"import {{{names}}} from {json.dumps((WEB / module).as_uri())};\n{READ}\n{body}\n"
        source += "console.log(JSON.stringify(found));"
        command = [program, "--input-type=module", "--eval", source]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return run
