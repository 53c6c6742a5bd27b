"""The page that Prometheus reads."""

from __future__ import annotations

from mcp_server.http.metrics import exposition
from mcp_server.ports.store import StoreStatus


def page(**gauges: float) -> list[str]:
    store = StoreStatus("embedded", True, gauges=gauges)
    return exposition({("get_project", "ok"): 3}, {"get_project": 0.25}, store).splitlines()


def test_numbers_are_whole_however_large_they_grow():
    shown = page(journal_bytes=12_345_678_901, pool_wait=0.5)
    assert "quaymaster_store_journal_bytes 12345678901" in shown
    assert "quaymaster_store_pool_wait 0.5" in shown


def test_each_metric_says_once_what_it_is():
    shown = page(journal_bytes=1)
    named = {line.split("{")[0].split(" ")[0] for line in shown if not line.startswith("#")}
    for mark in ("# HELP ", "# TYPE "):
        assert sorted(line.split(" ")[2] for line in shown if line.startswith(mark)) == sorted(named)
