"""How a release is made of an untrusted folder: what root reads of it, what it packs, and in which order it builds."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pwd
import subprocess
import tarfile
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from phoenix.build import archive as archived
from phoenix.build import package as declared
from phoenix.build import release, sandbox, source, start
from phoenix.common import tar


def entry(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    info.uid, info.gid, info.uname, info.mtime = 998, 998, "phoenix-build", 12345
    return info


def stream(*entries: tarfile.TarInfo, content: bytes = b"text") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info in entries:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    buffer.seek(0)
    return buffer


def packed(target: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(target) as archive:
        return {info.name: info for info in archive}


def test_everything_packed_belongs_to_root_and_nobody_else_may_write_it(tmp_path: Path) -> None:
    target = tmp_path / "release.tar.gz"
    received = stream(
        entry(".", tarfile.DIRTYPE, 0o777),
        entry("./a.js", mode=0o666),
        entry("./run", mode=0o6755),
        entry("./link", tarfile.SYMTYPE, link="a.js"),
        entry("./same", tarfile.LNKTYPE, link="./a.js"),
    )
    archived.repack(received, target, {archived.START: "#!/bin/sh\n", archived.NODE: "/opt/nodejs/8.11.1\n"})
    found = packed(target)
    assert {name: oct(one.mode) for name, one in found.items() if not one.issym()} == {
        ".": "0o755",
        "./a.js": "0o644",
        "./run": "0o755",
        "./same": "0o644",
        "./.phoenix-start": "0o755",
        "./.phoenix-node": "0o644",
    }
    assert {(one.uid, one.gid, one.uname, one.mtime) for one in found.values()} == {(0, 0, "root", 0)}
    assert (found["./link"].linkname, found["./same"].linkname) == ("a.js", "./a.js")


@pytest.mark.parametrize(
    "left",
    [
        [entry("./.phoenix-start", tarfile.SYMTYPE, link="/etc/passwd")],
        [entry("./.phoenix-start", mode=0o755)],
        [entry("./.phoenix-activated"), entry("./.phoenix-checksum", tarfile.SYMTYPE, link="/etc/passwd")],
        [entry("./.phoenix-start", tarfile.DIRTYPE), entry("./.phoenix-start/x")],
        [entry("./pipe", tarfile.FIFOTYPE), entry("./disk", tarfile.BLKTYPE)],
    ],
)
def test_what_scripts_left_behind_in_bad_faith_is_not_packed(tmp_path: Path, left: list[tarfile.TarInfo]) -> None:
    target = tmp_path / "release.tar.gz"
    archived.repack(stream(*left), target, {archived.START: "#!/bin/sh\nexec node a.js\n"})
    with tarfile.open(target) as archive:
        (only,) = archive.getmembers()
        assert only.name == "./.phoenix-start"
        assert only.isreg()
        file = archive.extractfile(only)
        assert file is not None
        assert file.read() == b"#!/bin/sh\nexec node a.js\n"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = entry("./a.js"), entry("./a.js", mode=0o664)
    other.uid, other.mtime = 999, 99999
    archived.repack(stream(one), tmp_path / "1.tar.gz", {archived.START: "x"})
    archived.repack(stream(other), tmp_path / "2.tar.gz", {archived.START: "x"})
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()


def test_package_json_is_read_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"scripts": {"start": "node secret.js"}}')
    (tmp_path / "package.json").symlink_to("secret")
    with pytest.raises(start.BuildError, match="plain file"):
        declared.Source.read(tmp_path)
    (tmp_path / "package.json").unlink()
    os.mkfifo(tmp_path / "package.json")
    with pytest.raises(start.BuildError, match="plain file"):
        declared.Source.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "holds no package.json"), ("{", "not valid JSON"), ("[]", "one object"), (" " * (1 << 20) + "{}", "1 MB")],
)
def test_a_package_json_that_is_of_no_use(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "package.json").write_text(text)
    with pytest.raises(start.BuildError, match=words):
        declared.Source.read(tmp_path)


@pytest.mark.parametrize("lock", ["package-lock.json", "npm-shrinkwrap.json", ""])
def test_either_lock_file_counts(tmp_path: Path, lock: str) -> None:
    (tmp_path / "package.json").write_text('{"scripts": {"start": "node a.js"}}')
    if lock:
        (tmp_path / lock).write_text("{}")
    assert declared.Source.read(tmp_path).locked == bool(lock)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pm2 start app.js", "background"),
        ("./node_modules/.bin/forever start app.js", "background"),
        ("cross-env NODE_ENV=production pm2 start app.js", "background"),
        ("PORT=8080 node app.js", "sets PORT"),
        ("cross-env PORT=8080 node app.js", "sets PORT"),
        ("env DB_CONNECTION_STRING=mongodb://localhost/x node app.js", "sets DB_CONNECTION_STRING"),
    ],
)
def test_a_start_that_could_not_work_is_refused_with_the_way_out(command: str, words: str) -> None:
    with pytest.raises(start.BuildError, match=words) as caught:
        start.parse_start(command)
    assert "node server.js" in str(caught.value) or "Leave" in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        "PORT=$PORT node app.js",
        "cross-env NODE_ENV=production node app.js",
        "env A=b node -r ./x app.js",
        "node pm2.js",
    ],
)
def test_a_start_that_looks_alike_and_works_is_taken(command: str) -> None:
    start.parse_start(command)


def test_proxies_and_named_variables_reach_the_build_and_no_others(tmp_path: Path) -> None:
    given = {"https_proxy": "http://proxy:3128", "NO_PROXY": "localhost", "TOKEN": "x", "BRANCH": "main"}
    options = Namespace(node=tmp_path, ca_file="/nonexistent", pass_environment=["BRANCH", "UNSET"])
    found = release.environment(options, tmp_path, given)
    assert found["https_proxy"] == "http://proxy:3128"
    assert (found["NO_PROXY"], found["BRANCH"]) == ("localhost", "main")
    assert "TOKEN" not in found
    assert "UNSET" not in found


class Bare(sandbox.Sandbox):
    """Runs commands as they are, as this user."""

    def line(self, words, environment, folder, secrets=sandbox.NONE):  # type: ignore[no-untyped-def]
        return ["env", "-C", str(folder), *words]

    def end(self) -> None:
        pass


# Stands for node with npm: notes its words, and does what matters of each.
NODE = """#!/bin/sh
if [ "$1" = -e ]; then
    echo '{"node": "v8.11.1", "npm": "6.14.18", "excluded": []}'
    exit
fi
echo "$2 $3" >>"$HOME/../../asked"
case $2 in
    ci) mkdir -p node_modules/ms && echo 1 >node_modules/ms/index.js ;;
    run) ln -s /etc/passwd .phoenix-start && echo built >built.js ;;
    broken) exit 1 ;;
esac
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    monkeypatch.setattr(release, "Sandbox", Bare)
    for name in ("node/bin", "npm/current/bin", "releases", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "node/bin/node").write_text(NODE)
    (tmp_path / "node/bin/node").chmod(0o755)
    return Namespace(
        version="1.0.0",
        releases=tmp_path / "releases",
        scratch=tmp_path / "scratch",
        source=tmp_path / "source.tar",
        user=pwd.getpwuid(os.getuid()).pw_name,
        node=str(tmp_path / "node"),
        npm=str(tmp_path / "npm/current/bin/npm-cli.js"),
        npmrc=tmp_path / "npmrc",
        ca_file="/nonexistent",
        timeout=60,
        memory="1G",
        pass_environment=[],
        deploy_key=tmp_path / "no-key",
        build_script="",
        check_engines=True,
        keep=5,
        serving="",
    )


def write_source(path: Path, package: dict[str, Any]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, text in (("package.json", json.dumps(package)), ("package-lock.json", "{}")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


def test_a_release_is_built_packed_and_noted(options: Namespace) -> None:
    write_source(
        options.source, {"scripts": {"start": "node built.js", "build": "make"}, "devDependencies": {"a": "1"}}
    )
    answer = release.build(options)
    archive = options.releases / "1.0.0.tar.gz"
    assert archived.status(archive) == {"present": True, "checksum": answer["checksum"], "built": ["1.0.0"]}
    assert answer["warnings"] == []
    names = packed(archive)
    assert {"./node_modules/ms/index.js", "./built.js", "./package-lock.json"} <= set(names)
    assert names["./.phoenix-start"].isreg(), "the link that the build left is packed in place of the start script"
    assert list(options.scratch.glob("build-*")) == []
    asked = (options.scratch / "asked").read_text().splitlines()
    assert [line.strip() for line in asked] == ["ci", "run build", "prune --production"]


def test_a_release_that_was_lost_is_built_again_with_the_same_content(options: Namespace) -> None:
    """A module may note the folder in which it was built."""
    node = Path(options.node) / "bin/node"
    node.write_text(node.read_text().replace("ci)", "ci) pwd >where;"))
    write_source(options.source, {"scripts": {"start": "node built.js", "build": "make"}})
    first = release.build(options)
    (options.releases / "1.0.0.tar.gz").unlink()
    assert release.build(options)["checksum"] == first["checksum"]
    assert "./where" in packed(options.releases / "1.0.0.tar.gz")


@pytest.mark.parametrize("damaged", [False, True])
def test_other_content_is_not_built_under_the_name_of_a_release_that_is_gone(options: Namespace, damaged: bool) -> None:
    archive = options.releases / "1.0.0.tar.gz"
    write_source(options.source, {"scripts": {"start": "node built.js", "build": "make"}})
    first = release.build(options)["checksum"]
    if damaged:
        archive.write_bytes(b"")
    else:
        archived.prune(options.releases, 0, set())
    assert not archived.status(archive)["present"]
    write_source(options.source, {"name": "other", "scripts": {"start": "node built.js", "build": "make"}})
    with pytest.raises(start.BuildError, match=rf"1\.0\.0 was built before.*{first}.*phoenix_build_as"):
        release.build(options)
    assert not archived.status(archive)["present"]
    write_source(options.source, {"scripts": {"start": "node built.js", "build": "make"}})
    assert release.build(options)["checksum"] == first


def test_builds_at_once_do_not_mix(options: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of their own, as plays start them: two sources, and the release of one of them twice."""
    monkeypatch.setattr(release, "LOCK", tmp_path / "lock")
    node = Path(options.node) / "bin/node"
    # So long that each is begun while another one runs.
    node.write_text(node.read_text().replace("ci)", "ci) sleep 0.5;"))

    def words(name: str) -> list[str]:
        write_source(tmp_path / f"{name}.tar", {"name": name, "scripts": {"start": "node built.js", "build": "make"}})
        given = {name: getattr(options, name) for name in ("releases", "scratch", "user", "node", "npm", "npmrc")}
        given |= {"version": f"1.0.0-{name}", "source": tmp_path / f"{name}.tar", "deploy-key": options.deploy_key}
        return ["build", *(f"--{option}={value}" for option, value in given.items())]

    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as processes:
        begun = [processes.submit(release.main, words(name)) for name in ("one", "other", "other")]
        assert [one.result() for one in begun] == [0, 0, 0]
    for name in ("one", "other"):
        archive = options.releases / f"1.0.0-{name}.tar.gz"
        assert archived.status(archive)["present"]
        assert "./built.js" in packed(archive)
        with tarfile.open(archive) as content:
            (package,) = [one for one in content if one.name == "./package.json"]
            file = content.extractfile(package)
            assert file and json.load(file)["name"] == name
    asked = (options.scratch / "asked").read_text().split()
    assert asked.count("ci") == 2, "a release that is there is not built again"
    assert list(options.scratch.glob("build-*")) == []


def test_a_source_that_git_exported_without_its_submodules_is_refused(options: Namespace, tmp_path: Path) -> None:
    def git(folder: str, *words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "protocol.file.allow=always"]
        subprocess.run(["git", "-C", str(tmp_path / folder), *identity, *words], check=True, capture_output=True)

    for folder in ("library", "application"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "package.json").write_text('{"scripts": {"start": "node built.js", "build": "make"}}')
        (tmp_path / folder / "package-lock.json").write_text("{}")
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message=x")
    git("application", "submodule", "--quiet", "add", str(tmp_path / "library"), "lib/own")
    git("application", "commit", "--quiet", "--message=x")
    git("application", "archive", "--format=tar", f"--output={options.source}", "HEAD")
    with pytest.raises(start.BuildError, match=r"submodules lib/own, which the source does not hold.* folder"):
        release.build(options)
    assert not (options.scratch / "asked").exists(), "before any script runs"
    # A folder in which they are checked out holds them.
    application = tmp_path / "application"
    options.source.write_bytes(tar.pack(application, source.members(application)))
    assert release.build(options)["present"]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5\n" % (b"0" * 64)


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (POINTER, True),
        (POINTER.replace(b"/v1", b"/v2"), True),
        (b"Files of Git LFS begin with\n" + POINTER, False),
        (POINTER + b"x" * declared.POINTER_SIZE, False),
        (POINTER[:40], False),
        (b"", False),
    ],
)
def test_a_source_with_pointers_in_place_of_files_is_refused(
    options: Namespace, tmp_path: Path, content: bytes, refused: bool
) -> None:
    application = tmp_path / "application"
    (application / "public").mkdir(parents=True)
    (application / "package.json").write_text('{"scripts": {"start": "node built.js", "build": "make"}}')
    (application / "package-lock.json").write_text("{}")
    (application / "public" / "logo.png").write_bytes(content)
    (application / "public" / "link.png").symlink_to("logo.png")
    options.source.write_bytes(tar.pack(application, source.members(application)))
    if not refused:
        assert release.build(options)["present"]
        return
    with pytest.raises(start.BuildError, match=r"^public/logo\.png: .*pointers of Git LFS.*git lfs pull"):
        release.build(options)
    assert not (options.scratch / "asked").exists(), "before any script runs"


def test_a_build_that_fails_leaves_nothing_and_removes_what_one_left_that_was_broken_off(options: Namespace) -> None:
    (options.scratch / "build-broken" / "release").mkdir(parents=True)
    options.source.write_bytes(b"no archive")
    with pytest.raises(start.BuildError, match="can't be unpacked"):
        release.build(options)
    assert list(options.scratch.iterdir()) == []
    assert [path.name for path in options.releases.iterdir()] == []


@pytest.mark.parametrize(
    ("output", "headers", "words"),
    [
        ("gyp ERR! find Python\ngyp ERR! not ok", True, "release_build_packages"),
        ("gyp ERR! stack Error: not found: make", True, "release_build_packages"),
        ("make: g++: No such file or directory\ngyp ERR! build error", True, "release_build_packages"),
        ("gyp ERR! stack Error: getaddrinfo ENOTFOUND", False, "vendor's own archive"),
        ("gyp ERR! build error", True, ""),
        ("npm ERR! code E404", False, ""),
    ],
)
def test_a_known_reason_comes_with_the_way_out(tmp_path: Path, output: str, headers: bool, words: str) -> None:
    if headers:
        (tmp_path / "include/node").mkdir(parents=True)
        (tmp_path / "include/node/node.h").touch()
    hint = release._hint(output, Namespace(node=str(tmp_path)))
    assert (words in hint) if words else hint == ""


def test_an_npm_that_does_not_run_on_this_nodejs_is_one_message(options: Namespace) -> None:
    (Path(options.node) / "bin/node").write_text("#!/bin/sh\necho 'SyntaxError: Unexpected token .' >&2\nexit 1\n")
    write_source(options.source, {"scripts": {"start": "node a.js"}})
    with pytest.raises(start.BuildError, match=r"SyntaxError.*\n+.*release_npm_version"):
        release.build(options)
