"""The plots of docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.goals import Results, figure, figures

__all__ = ["draw"]

OURS, OTHERS = "#c2410c", ["#1d4ed8", "#0f766e", "#7c3aed", "#a16207", "#be185d", "#475569"]


def draw(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Draw what the results allow; returns file names and what they show."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "x"})
    folder.mkdir(parents=True, exist_ok=True)
    peers = list(results["peers"])
    others = iter(OTHERS)
    colors = {peer: OURS if peer == "fourlane" else next(others) for peer in peers}
    drawn = []
    for name, alt, paint in (
        ("drain.svg", "Jobs a second with one and two processes", _drain),
        ("pickup.svg", "Pickup latency as a distribution", _pickup),
        ("bytes.svg", "Redis bytes per queued job", _bytes),
    ):
        picture, axes = plt.subplots(figsize=(7, 3.4))
        if paint(axes, results, peers, colors):
            picture.tight_layout()
            picture.savefig(folder / name, metadata={"Date": None})
            drawn.append((name, alt))
        plt.close(picture)
    return drawn


def _drain(axes: Any, results: Results, peers: list[str], colors: dict[str, str]) -> bool:
    rows = [(p, [figure(results, case, p, "jobs_per_second") for case in ("drain", "drain2")]) for p in peers]
    rows = sorted((r for r in rows if any(r[1])), key=lambda row: row[1][0] or 0)
    for place, (peer, values) in enumerate(rows):
        for number, value in enumerate(values):
            if value:
                at = place + 0.2 - 0.4 * number
                axes.barh(at, value, 0.36, color=colors[peer], alpha=1 if number else 0.55)
                axes.text(value * 1.05, at, f"{value:,.0f}", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [peer for peer, _ in rows])
    axes.set_xlim(100, 600_000)
    axes.set_xlabel("no-op jobs a second, logarithmic; pale: 1 process, full: 2 processes")
    return bool(rows)


def _pickup(axes: Any, results: Results, peers: list[str], colors: dict[str, str]) -> bool:
    drawn = False
    for peer in peers:
        samples = sorted(ms for run in figures(results, "pickup", peer, "samples_ms") for ms in run)  # type: ignore[attr-defined]
        if samples:
            shares = [(number + 1) / len(samples) * 100 for number in range(len(samples))]
            axes.step(samples, shares, label=peer, color=colors[peer], lw=2.4 if peer == "fourlane" else 1.3)
            drawn = True
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds from the enqueue to the begin of the function, logarithmic")
    axes.set_ylabel("% of jobs begun")
    axes.grid(alpha=0.25)
    if drawn:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _bytes(axes: Any, results: Results, peers: list[str], colors: dict[str, str]) -> bool:
    rows = [(figure(results, "drain", peer, "bytes_per_job"), peer) for peer in peers]
    found = sorted(((value, peer) for value, peer in rows if value), reverse=True)
    for place, (value, peer) in enumerate(found):
        axes.barh(place, value, 0.6, color=colors[peer])
        axes.text(value, place, f" {value:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(found)), [peer for _, peer in found])
    axes.set_xlabel("bytes in Redis per queued job, of about 200 bytes of arguments")
    return bool(found)
