"""What all tests run under: one thread, no network, real data where it lies beside the project. By hand, unlike test_*.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest  # noqa: E402

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
if "TWO_TOWERS_SHARED" not in os.environ and REAL.is_dir():
    os.environ["TWO_TOWERS_SHARED"] = str(REAL)


@pytest.fixture
def shared() -> Path:
    """The folder of real data that lies beside the project; the test skips where there is none."""
    folder = os.environ.get("TWO_TOWERS_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real data here: $TWO_TOWERS_SHARED names no folder")
    return Path(folder)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for anything but this machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _skip_fails(report: Any) -> None:
    """In CI everything that a test may need is there, but for a GPU: a skip would hide that it was not run."""
    if not os.environ.get("CI") or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if "GPU" not in why:
        report.outcome, report.longrepr = "failed", f"skipped in CI, which counts as failed: {why}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """A skipped test."""
    report = yield
    _skip_fails(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """A whole file that skips itself."""
    report = yield
    _skip_fails(report)
    return report
