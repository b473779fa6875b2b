"""Generated requests for the unwanted routes: spellings that a router or a proxy may take for these, smuggling."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.harness.wire import Request

ROUTES = [b"crash", b"generatecert"]
PREFIXES = [
    *[b"/"] * 6, b"//", b"///", b"/./", b"/x/../", b"/../", b"/.//", b"/%2e/",
    b"/x/%2e%2e/", b"/%2f", b"/%2F/", b"\\", b"/\\",
    b"\\/", b"/%5c", b"/;/", b"", b"*", b"/\t", b"/ ", b"\xa0/", b" /", b"/%00/", b"http://HOST/", b"HTTP://HOST//",
    b"http://user@HOST/", b"http://HOST:80/", b"http://HOST\\", b"//HOST/", b"http:/",
    b"ftp://HOST/", b"http://other.test/",
    b"?/", b"#/", b"http://HOST?/", b"http://HOST#/",
]  # fmt: skip
SUFFIXES = [
    *[b""] * 6, b"/", b"//", b"/.", b"/./", b"/x/..", b"/..", b"/%2e", b"%2f", b"?", b"?a=b",
    b"/?a", b"#", b"#x", b"/#x", b"?#", b"%23",
    b"%3f", b"%20", b"%00", b"%0a", b"%0d%0a", b"%a0", b";", b";a=b", b"\\", b"%5c",
    b"\xa0", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"\x85", b"\t", b"\x0b", b"\x0c", b"\r", b"\n", b"\x00", b" ", b"  ", b"\x7f", b"\xff",
    b".", b"'", b'"', b"|", b"{", b"^", b"`", b"<",
]  # fmt: skip
METHODS = [
    *[b"GET"] * 6, b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE",
    b"CONNECT", b"PROPFIND", b"LOCK", b"PURGE",
    b"M-SEARCH", b"get", b"Get", b"FOO", b"SOURCE", b"PRI",
]  # fmt: skip
INNER = b"GET /crash HTTP/1.1\r\nHost: HOST\r\n\r\n"
CHUNKED = b"0\r\n\r\n" + INNER
Extra = tuple[tuple[tuple[bytes, bytes], ...], bytes]  # headers and body
KEY = ((b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="))
# With `close` the answer's end is not waited for.
UPGRADES: list[Extra] = [
    (((b"Connection", b"Upgrade, close"), (b"Upgrade", b"websocket"), *KEY), b""),
    # Followed at once by what would be a request, were the connection not upgraded.
    (((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"WebSocket"), *KEY), INNER),
    (((b"Connection", b"Upgrade, close"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"1")), INNER),
    (((b"Connection", b"Upgrade, close"), (b"Upgrade", b"websocket"), (b"Content-Length", b"0"), *KEY), INNER),
    (((b"Connection", b"Upgrade, close"), (b"Upgrade", b"websocket, h2c"), *KEY), b""),
    (((b"Connection", b"Upgrade, close"), (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c"), *KEY), b""),
    (((b"Accept", b"text/event-stream"),), b""),
]
EXTRAS: list[Extra] = [
    *UPGRADES,
    *[((), b"")] * 8,
    (((b"X-HTTP-Method-Override", b"GET"),), b""),
    (((b"X-Original-URL", b"/crash"), (b"X-Rewrite-URL", b"/crash")), b""),
    (((b"X-Forwarded-For", b"127.0.0.1"), (b"X-Forwarded-Path", b"/crash")), b""),
    (
        ((b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")),
        b"",
    ),
    (((b"Content-Length", str(len(INNER)).encode()),), INNER),
    (((b"Content-Length", b"0"),), INNER),
    (((b"Transfer-Encoding", b"chunked"),), CHUNKED),
    (((b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer-Encoding", b"chunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer-Encoding", b"xchunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer-Encoding ", b"chunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer_Encoding", b"chunked")), CHUNKED),
    (((b"Content-Length", b"0"), (b"Content-Length", str(len(INNER)).encode())), INNER),
    (((b"Content-Length", b"0 0"),), INNER),
    (((b"X", b"a\r\n\r\n" + INNER),), b""),
    (((b"X", b"a\n\n" + INNER),), b""),
    (((b"X", b"a\r\rGET /crash HTTP/1.1\r"),), b""),
    (((b"Connection", b"keep-alive"), (b"Content-Length", b"0")), INNER + INNER),
]


def _spell(letter: int, how: str) -> bytes:
    char = bytes([letter])
    return {
        "plain": char,
        "upper": char.upper(),
        "percent": b"%%%02x" % letter,
        "PERCENT": b"%%%02X" % (letter ^ 0x20),
        "twice": b"%%25%02x" % letter,
    }[how]


@st.composite
def spelled(draw: st.DrawFn) -> bytes:
    route = draw(st.sampled_from(ROUTES))
    hows = draw(
        st.one_of(
            st.just(["plain"]),
            st.lists(st.sampled_from(["plain", "upper"]), min_size=1, max_size=12),
            st.lists(
                st.sampled_from(["plain", "plain", "upper", "percent", "PERCENT", "twice"]), min_size=1, max_size=12
            ),
        )
    )
    target = draw(st.sampled_from(PREFIXES))
    target += b"".join(_spell(letter, hows[i % len(hows)]) for i, letter in enumerate(route))
    target += draw(st.sampled_from(SUFFIXES)) + draw(
        st.one_of(st.just(b""), st.sampled_from(SUFFIXES), st.binary(max_size=2))
    )
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(target)))
        target = target[:at] + draw(st.binary(min_size=1, max_size=2)) + target[at:]
    return target


def requests(versions: list[str]) -> st.SearchStrategy[Request]:
    return st.builds(
        lambda target, method, version, extra: Request(target, method, version, *extra),
        spelled(),
        st.sampled_from(METHODS),
        st.sampled_from(versions),
        st.sampled_from(EXTRAS),
    )
