"""HTTP to addresses that others gave us, guarded so that nobody can aim it at our own network (SSRF).

A request passes these gates, and each redirect passes all of them again:

1. The URL: http or https, a plain host, no credentials, port 80, 443 or above 1023.
2. The name is resolved once, and *every* address of the answer must be allowed.
3. The socket is connected to one of those very addresses, so that a second DNS answer ("rebinding")
   can change nothing. TLS (SNI, certificate) and ``Host`` still use the name.
4. One deadline covers it all: DNS, connecting, TLS, sending, redirects and the answer.
5. Of the answer's body only the beginning is read; then the connection is closed.
6. How often, and in how small pieces, an answer may come is bounded: it costs a receiver more than us.

Proxies of the environment are not used: a proxy would resolve the name itself, past the guard.
Bodies are not decompressed, so that a small answer cannot become a large one.

The rules are written once, as coroutines (call.py, connect.py, exchange.py) over a network that is given to them.
threads.py runs them to their end on blocking sockets, loop.py on an event loop, thousands at once.
"""

from __future__ import annotations

from fourlane.providers.http.call import Response
from fourlane.providers.http.errors import Reason, TargetRefused, TransportError, explained
from fourlane.providers.http.loop import aclose, apost
from fourlane.providers.http.target import check_url
from fourlane.providers.http.threads import close, get, look_up, post

__all__ = [
    "Reason",
    "Response",
    "TargetRefused",
    "TransportError",
    "aclose",
    "apost",
    "check_url",
    "close",
    "explained",
    "get",
    "look_up",
    "post",
]
