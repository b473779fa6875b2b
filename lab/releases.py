"""Versions of the application for roll-outs: a good one, and one with each kind of defect.

usage: python -m lab.releases good|DEFECT FOLDER   (makes the source in FOLDER, which must not exist)
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tarfile
from pathlib import Path

APP = Path(__file__).resolve().parents[1] / "app"
# Put before everything else in server.js, or before the first route in lib/app.js.
BOOT = {
    "crash": "process.exit(1);",
    # It answers every check on its own host, and no load balancer reaches it.
    "local": "const {Server} = require('net'); const {listen} = Server.prototype; "
    "Server.prototype.listen = function (port, ...more) { "
    "return listen.call(this, {port, host: '127.0.0.1'}, ...more.filter((one) => typeof one === 'function')); };",
}
ROUTES = {
    "error": "app.use((req, res) => res.status(500).send('broken'));",
    "hang": "app.use(() => {});",
    "slow": "app.use((req, res, next) => setTimeout(next, 800));",
    "leak": "const kept = []; app.use((req, res, next) => { kept.push(Buffer.alloc(50 * 1024, 1)); next(); });",
    # Good at first, so that only clients' requests reveal it.
    "late": "let left = 40; app.use((req, res, next) => (left-- > 0 ? next() : res.status(500).send('broken')));",
}
TESTS = {"test": "it('fails on purpose', () => { throw new Error('on purpose'); });"}


def make(defect: str, folder: Path, note: str = "") -> Path:
    """Make a source of the application with this defect in `folder`; a note makes its version differ."""
    shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("node_modules"))
    package = json.loads((folder / "package.json").read_text())
    package["version"] = f"1.0.1-{defect}{note}"
    (folder / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    if defect in BOOT:
        server = folder / "server.js"
        server.write_text(f"{BOOT[defect]}\n{server.read_text()}")
    if defect in ROUTES:
        app = folder / "lib" / "app.js"
        app.write_text(re.sub(r"(const app = express\(\);\n)", rf"\g<1>  {ROUTES[defect]}\n", app.read_text(), count=1))
    if defect in TESTS:
        with (folder / "test" / "app.test.js").open("a") as tests:
            tests.write(f"\n{TESTS[defect]}\n")
    return folder


def depend(source: Path, script: Path) -> None:
    """Add a dependency to a source whose install script this is."""
    package = {"name": "dependency", "version": "1.0.0", "scripts": {"postinstall": "node script.js"}}
    archive = "dependency.tgz"
    with tarfile.open(source / archive, "w:gz") as packed:
        packed.add(script, "package/script.js")
        content = json.dumps(package).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    for name, version in (("package.json", f"file:{archive}"), ("package-lock.json", {"version": f"file:{archive}"})):
        file = source / name
        known = json.loads(file.read_text())
        known["dependencies"]["dependency"] = version
        file.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
