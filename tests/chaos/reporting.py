"""The figures of the long races: printed at the end of the run, also by the workers of xdist.

`--run-long` makes them long (`make chaos`); without it they are short enough for every run.
"""

from __future__ import annotations

import pytest

FIGURES = "figures"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-long", action="store_true", help="the long forms of the kill tests")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)
    ]
    told = [
        value for report in reports for name, value in report.user_properties if name == FIGURES
    ]
    if told:
        terminalreporter.section("figures")
    for line in told:
        terminalreporter.write_line(line)
