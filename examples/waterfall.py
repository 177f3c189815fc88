"""Prints an OTLP JSON file as a waterfall: ``python -m examples.waterfall docs/trace.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["waterfall"]

WIDTH = 40


def waterfall(recorded: dict[str, Any]) -> Iterator[str]:
    """A line for each span, callers above callees: service, name, milliseconds, where it lies in the whole."""
    spans = []
    for of_resource in recorded["resourceSpans"]:
        [service] = [a for a in of_resource["resource"]["attributes"] if a["key"] == "service.name"]
        for scope in of_resource["scopeSpans"]:
            spans += [span | {"service": service["value"]["stringValue"]} for span in scope["spans"]]
    spans.sort(key=lambda span: int(span["startTimeUnixNano"]))
    first = int(spans[0]["startTimeUnixNano"])
    whole = max(int(span["endTimeUnixNano"]) for span in spans) - first
    known = {span["spanId"] for span in spans}

    def below(parent: str | None, depth: int) -> Iterator[str]:
        for span in spans:
            if (span.get("parentSpanId") if span.get("parentSpanId") in known else None) == parent:
                begin, end = (int(span[key]) - first for key in ("startTimeUnixNano", "endTimeUnixNano"))
                left = begin * WIDTH // whole
                bar = " " * left + "█" * max(1, end * WIDTH // whole - left)
                failed = " ✗" if span["status"].get("code") == "STATUS_CODE_ERROR" else ""
                linked = " ↩" if span.get("links") else ""
                name = "  " * depth + span["name"] + failed + linked
                yield f"{span['service']:<6}{name:<46.46}{(end - begin) / 1e6:>9.1f} ms  {bar}"
                yield from below(span["spanId"], depth + 1)

    yield from below(None, 0)


if __name__ == "__main__":
    for line in waterfall(json.loads(Path(sys.argv[1]).read_text())):
        print(line)
