"""Figures as they are counted and added up."""

from __future__ import annotations

import importlib

import pytest

from fourlane.observe import Observe, check
from fourlane.observe.figures import Exemplar, Figures, Times
from fourlane.observe.meter import Meter


def test_series_are_bounded_and_nothing_is_lost() -> None:
    meter = Meter()
    for number in range(3_000):
        meter.counted("ai_cost_usd", ("openai", "m", f"t{number}"), 1)
    counts = meter.figures.counts["ai_cost_usd"]
    assert len(counts) <= 1_001
    assert sum(counts.values()) == 3_000


def test_figures_of_processes_are_added() -> None:
    one = Figures({"turns": {"a": 2}}, {"job_run_seconds": {"k": Times([1, 0], 0.5)}})
    other = Figures({"turns": {"a": 3}}, {"job_run_seconds": {"k": Times([0, 2], 4.0, {1: Exemplar("t", 2.0, 0.0)})}})
    one.fold(other)
    assert one.counts == {"turns": {"a": 5}}
    assert one.times["job_run_seconds"]["k"].buckets == [1, 2]
    assert one.times["job_run_seconds"]["k"].sum == 4.5


def test_what_is_on_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from fourlane.errors import SettingsError

    begin = importlib.import_module("fourlane.observe.begin")  # the package has a function of this name
    monkeypatch.setattr(begin, "_is_there", lambda module: False)
    check(Observe())
    with pytest.raises(SettingsError, match=r"FOURLANE_METRICS needs .*fourlane\[prometheus\]"):
        check(Observe(metrics=True))
