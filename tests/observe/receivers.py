"""Local endpoints that keep what they are sent: an OTLP collector, a Sentry, and anything that takes a POST."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Receiver"]


class Receiver:
    """Takes POSTs; use in a ``with``. ``code`` is what it answers, ``hold`` what it waits for before it does."""

    def __init__(self, code: int = 200) -> None:
        self.code = code
        self.hold = threading.Event()
        self.hold.set()
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.requests.append((self.path, body, {k.lower(): v for k, v in self.headers.items()}))
                receiver.hold.wait(20)
                answer = b"{}"
                try:
                    self.send_response(receiver.code)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass  # the caller did not wait

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def spans(self) -> list[dict[str, Any]]:
        """The spans that came over OTLP."""
        found = []
        for path, body, _ in list(self.requests):
            if path != "/v1/traces":
                continue
            request = ExportTraceServiceRequest.FromString(body)
            for of_resource in request.resource_spans:
                resource = {a.key: a.value.string_value for a in of_resource.resource.attributes}
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        found.append(
                            {
                                "name": span.name,
                                "trace": span.trace_id.hex(),
                                "id": span.span_id.hex(),
                                "parent": span.parent_span_id.hex(),
                                "links": [link.span_id.hex() for link in span.links],
                                "error": span.status.code == 2,
                                "kind": span.kind,
                                "service": resource.get("service.name", ""),
                                "events": [event.name for event in span.events],
                                "attributes": {
                                    a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes
                                },
                            }
                        )
        return found

    def trace_as_json(self, trace_id: str) -> str:
        """One trace as an OTLP file, which Jaeger's page takes with "Upload". Without stacks, which name folders."""
        found = []
        for path, body, _ in list(self.requests):
            if path == "/v1/traces":
                request = MessageToDict(ExportTraceServiceRequest.FromString(body))
                for of_resource in request["resourceSpans"]:
                    for scope in of_resource["scopeSpans"]:
                        scope["spans"] = [s for s in map(_with_hex_ids, scope["spans"]) if s["traceId"] == trace_id]
                    of_resource["scopeSpans"] = [scope for scope in of_resource["scopeSpans"] if scope["spans"]]
                found += [of_resource for of_resource in request["resourceSpans"] if of_resource["scopeSpans"]]
        return json.dumps({"resourceSpans": found}, indent=1)

    def envelopes(self) -> list[dict[str, Any]]:
        """The items of Sentry's envelopes: events and check-ins."""
        found = []
        for path, body, _ in list(self.requests):
            if "/envelope/" in path:
                lines = body.split(b"\n")
                found += [
                    json.loads(payload) | {"item": json.loads(head)["type"]}
                    for head, payload in zip(lines[1::2], lines[2::2], strict=False)
                    if head
                ]
        return found


def _with_hex_ids(span: dict[str, Any]) -> dict[str, Any]:
    """OTLP's JSON has ids in hex, protobuf's own in base64."""
    hexed: dict[str, Any] = {
        key: base64.b64decode(value).hex() if key in ("traceId", "spanId", "parentSpanId") else value
        for key, value in span.items()
    }
    if "links" in span:
        hexed["links"] = [_with_hex_ids(link) for link in span["links"]]
    for event in hexed.get("events", []):
        event["attributes"] = [a for a in event["attributes"] if a["key"] != "exception.stacktrace"]
    return hexed
