"""Whatever fits the OpenAPI document, or nearly does, is answered as the document says: no failure, no hang."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.service import running

pytestmark = pytest.mark.slow
FUZZER = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.skipif(not FUZZER, reason="pip install schemathesis")
def test_the_service_answers_a_fuzzer_as_its_document_says(tmp_path, record_property):
    with running(tmp_path, "--no-page") as process:
        command = [FUZZER, "run", f"{process.address}/openapi.json", "--checks", CHECKS, "--seed", "1"]
        limits = [
            "--max-examples",
            "15",
            "--request-timeout",
            "30",
            "--no-color",
            "--phases",
            "examples,coverage,fuzzing",
        ]
        done = subprocess.run([*command, *limits], capture_output=True, text=True, cwd=tmp_path, timeout=1200)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        record_property("fuzzed requests", re.findall(r"([\d,]+) generated", done.stdout)[-1])
