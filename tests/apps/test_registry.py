"""A private registry, directly and through a proxy: npm shows it the token, no script sees that."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from phoenix.build.start import BuildError
from tests.apps.conftest import Builder, ask

TOKEN = secrets.token_hex(16)
# What it can find of the token, and the shell's view of its own environment.
SPY = """
const fs = require('fs');
const seen = [JSON.stringify(process.env)];
for (const name of [process.env.npm_config_userconfig, '.npmrc', '../../.npmrc'])
  try { seen.push(fs.readFileSync(name, 'utf8')); } catch (error) { seen.push(error.code); }
fs.writeFileSync('seen', seen.join('\\n'));
"""


def package() -> bytes:
    contents = {
        "package.json": json.dumps(
            {"name": "@acme/greeting", "version": "1.0.0", "main": "index.js", "scripts": {"install": "node spy.js"}}
        ),
        "index.js": "module.exports = 'hello from the private registry\\n';\n",
        "spy.js": SPY,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in contents.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size, info.mode = len(text.encode()), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue())


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry with one package, which only a client with the token gets; yields its address."""
    data = package()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.send_error(401)
                return
            body = data if self.path.endswith(".tgz") else json.dumps(self.listing()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def listing(self) -> dict[str, Any]:
            integrity = base64.b64encode(hashlib.sha512(data).digest()).decode()
            dist = {
                "tarball": f"http://{self.headers['Host'].removesuffix(':80')}/@acme/greeting/-/greeting-1.0.0.tgz",
                "integrity": f"sha512-{integrity}",
                "shasum": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            }
            version: dict[str, Any] = {"name": "@acme/greeting", "version": "1.0.0", "main": "index.js", "dist": dist}
            version |= {"scripts": {"install": "node spy.js"}, "hasInstallScript": True}
            return {"name": "@acme/greeting", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("kind", ["old", "current"])
def test_the_token_of_a_private_registry_is_read_by_npm_alone(
    kind: str, request: pytest.FixtureRequest, root: Path, variant: Any, registry: str
) -> None:
    builder: Builder = request.getfixturevalue(kind)
    folder = variant({"dependencies": {"@acme/greeting": "1.0.0"}})
    (folder / "server.js").write_text(
        "require('http').createServer((q, r) => r.end(require('@acme/greeting'))).listen(process.env.PORT);\n"
    )
    settings = root / f"npmrc-{kind}"
    settings.write_text(f"@acme:registry=http://{registry}\n")
    settings.chmod(0o644)
    with pytest.raises(BuildError, match="401"):
        builder.build(folder, npmrc=settings)
    settings.write_text(f"@acme:registry=http://{registry}\n//{registry}:_authToken={TOKEN}\n")
    built = builder.build(folder, npmrc=settings)
    seen = (built.folder / "node_modules" / "@acme" / "greeting" / "seen").read_text()
    assert "@acme:registry" in seen, "the script has read no settings"
    assert TOKEN not in seen
    for path in built.folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    with built.running() as port:
        assert ask(port).body == "hello from the private registry\n"


def test_a_registry_that_only_a_proxy_reaches(
    old: Builder, root: Path, variant: Any, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server answers for whatever host it is asked, as a proxy does; the name exists nowhere.
    hidden = "registry.example.invalid/"
    settings = root / "npmrc-proxy"
    settings.write_text(f"@acme:registry=http://{hidden}\n//{hidden}:_authToken={TOKEN}\n")
    settings.chmod(0o644)
    monkeypatch.setenv("http_proxy", f"http://{registry}")
    built = old.build(variant({"dependencies": {"@acme/greeting": "1.0.0"}}), npmrc=settings)
    assert (built.folder / "node_modules" / "@acme" / "greeting" / "index.js").is_file()
