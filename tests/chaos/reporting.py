"""The figures of the long races: printed at the end of the run, those of xdist's workers too."""

from __future__ import annotations

import pytest

FIGURES = "figures"


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
