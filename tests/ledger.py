"""A pytest plugin that appends the results of a run to a file: `pytest -p tests.ledger --ledger FILE`.

A test reports a count by `record_property(what, count)`.
"""

import datetime
import os
import platform
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest

PACKAGES = re.compile("keras|tensorflow(-cpu)?|numpy|pillow|gradio|starlette|h5py")
TITLE = """# What the long tests found

`make test-long` writes this file. The long tests inject faults into every disk operation, kill processes at random,
read hostile bytes and put load on the app. `make test` runs a quick part of each. Tests that measure time run alone,
all others two at a time.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ledger", metavar="FILE", help="file to which the counts of every test are appended")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--ledger")
    if file and not hasattr(config, "workerinput"):  # xdist's workers report to their controller
        config.pluginmanager.register(Ledger(Path(file)))


class Ledger:
    """Collects the outcomes and counts of the tests, and writes them at the end of the run."""

    def __init__(self, file: Path) -> None:
        self.file, self.began, self.rows = file, datetime.datetime.now(), []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:  # a skip, or a failure before or after the test itself
            counted = ", ".join(f"{what} {count}" for what, count in report.user_properties)
            reason = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else ""
            self.rows.append((report.nodeid, report.outcome, counted or reason, report.duration))

    def pytest_sessionfinish(self) -> None:
        tests = "".join(
            f"| {nodeid.removeprefix('tests/')} | {outcome} | {counted} | {seconds:.0f} |\n"
            for nodeid, outcome, counted, seconds in self.rows
        )
        before = self.file.read_text() if self.file.exists() else TITLE
        self.file.write_text(f"{before}\n{self._setting()}\n\n| test | | counted | s |\n|---|---|---|---|\n{tests}")

    def _setting(self) -> str:
        found = {package.name.lower(): package.version for package in distributions()}
        packages = ", ".join(f"{name} {found[name]}" for name in sorted(found) if PACKAGES.fullmatch(name))
        outcomes = [outcome for _, outcome, _, _ in self.rows]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        minutes = (datetime.datetime.now() - self.began).total_seconds() / 60
        return (
            f"{self.began:%Y-%m-%d}, {counts} in {minutes:.0f} minutes. {os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}, {packages}."
        )
