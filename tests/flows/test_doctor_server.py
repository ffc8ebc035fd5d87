"""What `varstar doctor` asks of Prefect's server, without one."""

from __future__ import annotations

import time
from email.utils import formatdate

import httpx

from tests.makers.runbook import check_said
from varstar_batch.cli.doctor_server import _clock


class Server:
    """A client of a server whose clock is behind."""

    def __init__(self, behind: float) -> None:
        self.behind = behind

    def hello(self) -> httpx.Response:
        return httpx.Response(200, headers={"date": formatdate(time.time() - self.behind, usegmt=True)})


def test_a_clock_that_is_wrong_is_told() -> None:
    assert _clock(Server(0)).state == "ok"  # type: ignore[arg-type]
    check = _clock(Server(3600.5))  # type: ignore[arg-type]
    assert check.state == "failed"
    check_said("clock wrong", f"{check.found} {check.fix}")
