"""The CA on control and the members' certificates: what they are for, when they are due, and cut replacements."""

from __future__ import annotations

import functools
import io
import json
import shutil
import ssl
import stat
from pathlib import Path

import pytest

from phoenix.common import openssl
from phoenix.database import authority, certificate
from phoenix.database.authority import DAY, Authority
from tests.unit.shared import TOP, read_yaml, trusted

NOW = 1_900_000_000.0
NAMES = ["2001:db8::31", "127.0.0.1", "db1", "localhost"]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "ca", NOW)
    assert made.create() and not made.create()
    return made


def issued(ca: Authority, path: Path, names: list[str] | None = None) -> str:
    certificate.install(path, ca.sign(certificate.request(path), names or NAMES), user="")
    return path.read_text()


def test_only_the_owner_reads_keys_and_none_is_shown(ca: Authority, tmp_path: Path) -> None:
    issued(ca, tmp_path / "member.pem")
    ca.begin()
    assert stat.S_IMODE(ca.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in ca.folder.iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "member.pem").stat().st_mode) == 0o400
    assert "PRIVATE" not in json.dumps(ca.show())
    assert {path.name for path in ca.folder.iterdir()} == {"present.pem", "next.pem"}, "nothing is left of making them"
    assert list(tmp_path.glob("*.next")) == []


def test_a_members_certificate_is_for_its_names_for_servers_and_for_clients(ca: Authority, tmp_path: Path) -> None:
    pem = issued(ca, tmp_path / "member.pem")
    seen = certificate.read(pem)
    assert seen.names == set(NAMES)
    assert (seen.begin, seen.end) == (NOW - authority.BACKDATED, NOW + authority.MEMBER_DAYS * DAY)
    shown = openssl.run("x509", "-noout", "-text", given=pem)
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in shown and "CA:FALSE" in shown
    assert certificate.matches(pem, pem) and certificate.issued_by(pem, ca.show()["bundle"])
    assert certificate.reason(pem, ca.show()["authority"], NAMES[::-1], NOW) == ""


def test_what_a_request_asks_for_is_not_what_it_gets(ca: Authority, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(authority.new_key())
    asked = openssl.run(
        "req", "-new", "-config", "/dev/null", "-subj", "/CN=ca", "-key", key,
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectAltName=DNS:other",
    )  # fmt: skip
    pem = ca.sign(asked, ["192.0.2.31"])
    assert certificate.read(pem).names == {"192.0.2.31"}
    assert "CA:TRUE" not in openssl.run("x509", "-noout", "-text", given=pem)
    with pytest.raises(ValueError, match="needs a name"):
        ca.sign(asked, [])
    with pytest.raises(ValueError, match="openssl ca"):
        ca.sign("no request", ["192.0.2.31"])


def test_none_outlives_its_ca(ca: Authority, tmp_path: Path) -> None:
    late = Authority(ca.folder, NOW + (authority.AUTHORITY_DAYS - 100) * DAY)
    assert certificate.read(issued(late, tmp_path / "member.pem")).end == NOW + authority.AUTHORITY_DAYS * DAY


def test_when_it_is_due(ca: Authority, tmp_path: Path) -> None:
    pem, issuer = issued(ca, tmp_path / "member.pem"), ca.show()["authority"]
    other = Authority(tmp_path / "other", NOW)
    other.create()
    key = authority.new_key()
    whole = authority.certificates(pem)[0] + key
    life = authority.MEMBER_DAYS * DAY
    for expected, content, by, names, now in (
        ("", pem, issuer, NAMES, NOW + life * 0.6),
        ("there is none", "", issuer, NAMES, NOW),
        ("it ends on ", pem, issuer, NAMES, NOW + life * 0.7),
        ("it is for ", pem, issuer, NAMES[1:], NOW),
        ("another CA has issued it", pem, other.show()["authority"], NAMES, NOW),
        ("its key is another one's", whole, issuer, NAMES, NOW),
        ("it can't be read", "nonsense", issuer, NAMES, NOW),
    ):
        found = certificate.reason(content, by, names, now)
        assert found.startswith(expected) and bool(found) == bool(expected), (expected, found)


def test_the_key_of_a_request_that_was_cut_is_used_and_no_other_certificate_is_put_in(
    ca: Authority, tmp_path: Path
) -> None:
    path = tmp_path / "member.pem"
    first = certificate.request(path)
    again = ca.sign(certificate.request(path), NAMES)
    assert certificate.matches(again, (tmp_path / "member.pem.next").read_text()) and "REQUEST" in first
    with pytest.raises(ValueError, match="not of the key"):
        certificate.install(path, ca.show()["authority"], user="")
    certificate.install(path, again, user="")
    with pytest.raises(ValueError, match="not of the key"):
        certificate.install(path, again, user="")


def test_another_ca_is_reported_beside_the_first_reason(ca: Authority, tmp_path: Path) -> None:
    """By which a renewal that nobody needs to be asked about differs from one that waits for all."""
    pem, issuer = issued(ca, tmp_path / "member.pem"), ca.show()["authority"]
    ca.begin()
    ca.switch()
    other, late = ca.show()["authority"], NOW + authority.MEMBER_DAYS * DAY * 0.7
    assert certificate.due(pem, issuer, NAMES, late, False)["other_ca"] is False
    assert certificate.due(pem, issuer, NAMES[1:], NOW, False)["other_ca"] is False
    for names, again in ((NAMES[1:], False), (NAMES, True), (NAMES, False)):
        assert certificate.due(pem, other, names, late, again)["other_ca"] is True
    unread = certificate.due("nonsense", issuer, NAMES, NOW, False)
    assert str(unread["reason"]).startswith("it can't be read") and unread["other_ca"] is True


@pytest.mark.parametrize("cut", range(9))
def test_a_replacement_that_is_cut_anywhere_is_completed_and_nobody_is_ever_refused(
    tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts trust a bundle, and members serve a certificate; one step is one host, one member, or one of the CA."""
    # Asked again and again for the same two texts, each time by a program.
    monkeypatch.setattr(certificate, "issued_by", functools.cache(certificate.issued_by))
    ca, members = Authority(tmp_path / "ca", NOW), [tmp_path / "db1.pem", tmp_path / "db2.pem"]
    ca.create()
    former = ca.show()["authority"]
    for path in members:
        issued(ca, path)
    bundles = [ca.show()["bundle"]] * 2

    def run(most: int) -> None:
        """The play's order; ends after so many steps."""
        steps = 0
        for name in ("begin", "trust", "switch", "issue", "end", "trust"):
            for number in range(2 if name in ("trust", "issue") else 1):
                if steps == most:
                    return
                steps += 1
                if name == "trust":
                    bundles[number] = ca.show()["bundle"]
                elif name != "issue":
                    getattr(ca, name)()
                elif certificate.reason(members[number].read_text(), ca.show()["authority"], NAMES, NOW):
                    issued(ca, members[number])
                assert all(certificate.issued_by(path.read_text(), bundle) for path in members for bundle in bundles)

    run(cut)
    if cut < 8 and ca.phase == "whole":
        ca.begin()  # asked for again, where nothing shows that it was
    run(99)
    assert ca.phase == "whole" and bundles == [ca.show()["bundle"]] * 2 and former not in bundles[0]


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize("lost", [False, True])
def test_a_former_ca_stays_while_a_member_has_a_certificate_of_it(tmp_path: Path, lost: bool) -> None:
    """By the play's own conditions, where the new CA issues already: cut after switch, or control lost with its CA."""
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.template import Templar  # noqa: PLC0415

    plays = {play["name"]: play for play in read_yaml(TOP / "playbooks" / "rotate-database-tls.yml")}
    ca = Authority(tmp_path / "ca", NOW)
    ca.create()
    members = {name: tmp_path / f"{name}.pem" for name in ("db1", "db2")}
    for path in members.values():
        issued(ca, path)
    before = ca.show()["bundle"]
    if lost:
        ca = Authority(tmp_path / "new", NOW)
        ca.create(before)
    else:
        ca.begin()
        ca.switch()
    started, failed = {"app1": before}, set[str]()

    def holds(play: str, task: str, variables: dict[str, object]) -> bool:
        (one,) = (one for one in plays[play]["tasks"] if one["name"] == task)
        given = trusted({"ansible_check_mode": False, "inventory_hostname": "app1", **variables, **one["vars"]})
        condition = one["until"] if "until" in one else one["ansible.builtin.assert"]["that"]
        return bool(Templar(loader=DataLoader(), variables=given).template(trusted("{{ " + condition + " }}")))

    def run(hosts: set[str]) -> bool:
        """Whether it comes to its end. hosts: of the limit."""
        shown = {"stdout": json.dumps(ca.show())}
        client = {name: [{"name": "phoenix@3000", "tls": True, "trusted": pem}] for name, pem in started.items()}
        seen = {name: {"clients": found, "member": []} if name in hosts else None for name, found in client.items()}
        asked = {"clients": client["app1"], "member": [], "attempts": 1}
        member = {"clients": [], "member": [{"name": "mongod", "tls": True, "trusted": ca.show()["bundle"]}]}
        common: dict[str, object] = {
            "rotate_shown": shown,
            "mongodb_clients": seen,
            "trust_database_clients": asked,
            "groups": {"db": [*members]},
            "hostvars": {name: {"trust_database_clients": member} if name in hosts else {} for name in members},
            "backup_store_host": "db1",
        }
        waited = holds(
            "Wait until all that runs was started with the next CA", "Wait for the programs of this host", common
        )
        assert waited is (started["app1"] != before)
        if not holds("Have the next CA issue", "Check that all trust it", common):
            return False
        for name in sorted(hosts & {*members} - failed):
            issued(ca, members[name])
        known = {
            name: {"inventory_hostname": name} | ({"rotate_issued": True} if name in hosts - failed else {})
            for name in members
        }
        variables: dict[str, object] = {"groups": {"db": [*members]}, "hostvars": known}
        if not holds("Forget the former CA", "Check that no member has a certificate of it", variables):
            return False
        ca.end()
        return True

    def trusts() -> bool:
        return all(certificate.issued_by(path.read_text(), ca.show()["bundle"]) for path in members.values())

    assert not run({"app1", "db1", "db2"}), "the application was not started with the new CA"
    assert not run({"db1", "db2"}) and trusts()
    started["app1"] = ca.show()["bundle"]
    certificates = [path.read_text() for path in members.values()]
    assert not run({"app1", "db1"}), "db2 may not trust the new CA"
    assert certificates == [path.read_text() for path in members.values()], "none was issued"
    failed.add("db2")
    assert not run({"app1", "db1", "db2"}), "db2 has one of the former"
    failed.clear()
    assert ca.phase == "former" and trusts()
    assert run({"app1", "db1", "db2"}) and ca.phase == "whole" and trusts()


def test_the_same_cas_are_the_same_text_whichever_issues(ca: Authority) -> None:
    ca.begin()
    before = ca.show()
    ca.switch()
    assert ca.show()["bundle"] == before["bundle"] and ca.show()["authority"] != before["authority"]
    assert not ca.begin() and not ca.switch(), "a replacement is completed before the next one"


def test_a_fleet_whose_ca_is_lost_trusts_the_new_one_beside_the_former(ca: Authority, tmp_path: Path) -> None:
    pem, trusted = issued(ca, tmp_path / "member.pem"), ca.show()["bundle"]
    new = Authority(tmp_path / "new", NOW)
    new.create(trusted)
    assert new.phase == "former" and certificate.issued_by(pem, new.show()["bundle"])
    assert certificate.reason(pem, new.show()["authority"], NAMES, NOW) == "another CA has issued it"


def test_a_ca_that_is_lost_is_not_made_again_unless_it_is_known_what_is_trusted(ca: Authority, tmp_path: Path) -> None:
    """As by site.yml --limit control: a CA of its own alone would leave the members with what nobody trusts."""
    new = Authority(tmp_path / "new", NOW)
    silent = {"db1": None, "db2": None}
    with pytest.raises(ValueError, match=r"no database host answers \(db1, db2\)"):
        new.create(members=silent)
    assert new.phase == "none" and not ca.create(members=silent), "one that is there is kept"
    trusted = ca.show()["bundle"]
    new.create(trusted, {"db1": None, "db2": trusted})
    assert new.former.read_text() == trusted


def test_a_ca_from_an_older_copy_is_trusted_beside_the_one_that_the_fleet_trusts(tmp_path: Path) -> None:
    """Control was lost after a replacement that the copy off-site had not yet: the members' CA is on no host."""
    ca = Authority(tmp_path / "ca", NOW)
    ca.create()
    copied = ca.show()["bundle"]
    old = Authority(tmp_path / "copy", NOW)
    shutil.copytree(ca.folder, old.folder)
    ca.begin()
    ca.switch()
    both = ca.show()["bundle"]
    ca.end()
    pem, trusted = issued(ca, tmp_path / "member.pem"), ca.show()["bundle"]
    assert not old.create(copied) and not old.create("")
    assert not old.create(both), "what it is trusted beside is of a replacement that is over"
    assert not old.create(trusted, {"db1": copied, "db2": None}), "a member trusts it"
    for known in ({"db1": None, "db2": None}, {"db1": trusted, "db2": None}, {"db1": "", "db2": None}):
        with pytest.raises(ValueError, match=r"do not answer decide \(.*db2\)"):
            old.create(trusted, known)
    assert old.phase == "whole"
    members = {"db1": trusted, "db2": trusted}
    # What control trusts since a run that was limited to it decides nothing.
    assert old.create(copied, members) and not old.create(copied, members)
    assert old.phase == "former" and old.show()["authority"] == copied
    assert certificate.issued_by(pem, old.show()["bundle"])
    assert old.end() and old.show()["bundle"] == copied


def test_a_host_from_an_older_copy_brings_no_former_ca_back(ca: Authority) -> None:
    """Its key may be known to others, which is why it was replaced."""
    retired = ca.show()["bundle"]
    ca.begin()
    ca.switch()
    ca.end()
    present = ca.show()["bundle"]
    assert not ca.create(retired, {"db1": present, "db2": present, "db3": retired})
    assert not ca.create(retired, {"db1": present, "db2": None}), "of an application host"
    with pytest.raises(ValueError, match=r"either it is from an older copy, or they are.*\(db1, db2\)"):
        ca.create(retired, {"db1": None, "db2": None, "db3": retired})
    assert ca.show()["bundle"] == present and ca.phase == "whole"


def test_a_copy_from_the_middle_of_a_replacement_forgets_no_ca(tmp_path: Path) -> None:
    """Neither the next one, which issues already, nor one of after it."""
    ca = Authority(tmp_path / "ca", NOW)
    ca.create()
    ca.begin()
    old = Authority(tmp_path / "copy", NOW)
    shutil.copytree(ca.folder, old.folder)
    ca.switch()
    ca.end()
    assert not old.create(ca.show()["bundle"]), "it has it as the next one"
    ca.begin()
    ca.switch()
    ca.end()
    pem = issued(ca, tmp_path / "member.pem")
    assert old.create(ca.show()["bundle"]) and old.switch()
    assert certificate.issued_by(pem, old.show()["bundle"])


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def order(area: object, verb: str, given: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        own = ["--folder", str(tmp_path / "ca")]
        if area is certificate:
            own = ["--path", str(tmp_path / "member.pem"), "--user", ""]
        return area.main([verb, *own]), capsys.readouterr().out  # type: ignore[attr-defined]

    def asked(given: str) -> object:
        status, printed = order(certificate, "due", given)
        assert status == 0
        return json.loads(printed)

    assert json.loads(order(authority, "show")[1]) == {"authority": "", "next": "", "bundle": "", "phase": "none"}
    assert order(authority, "create", json.dumps({"trusted": "", "members": {"db1": None}}))[0] == 1
    made = json.loads(order(authority, "create", json.dumps({"trusted": "", "members": {"db1": ""}}))[1])
    assert made["changed"] and made["phase"] == "whole"
    due = json.dumps({"authority": made["authority"], "names": NAMES, "again": False})
    assert asked(due) == {"reason": "there is none", "other_ca": False}
    request = order(certificate, "request")[1]
    status, signed = order(authority, "sign", json.dumps({"request": request, "names": NAMES}))
    assert status == 0 and order(certificate, "install", signed) == (0, "")
    assert asked(due) == {"reason": "", "other_ca": False}
    assert asked(due.replace("false", "true")) == {"reason": "asked for", "other_ca": False}
    assert order(certificate, "refuse", json.dumps({"bundle": made["bundle"]})) == (0, "")
    for verb, phase in (("begin", "next"), ("switch", "former"), ("end", "whole")):
        assert json.loads(order(authority, verb)[1])["phase"] == phase
    last = json.loads(order(authority, "show")[1])
    assert order(certificate, "refuse", json.dumps({"bundle": last["bundle"]}))[0] == 1
    assert order(authority, "sign", "{}")[0] == 1
    assert ssl.PEM_cert_to_DER_cert(last["authority"])


def test_an_operators_certificate_may_be_signed_by_an_intermediate_ca(tmp_path: Path) -> None:
    def sign(name: str, issuer: str, extensions: str) -> str:
        key, request = tmp_path / f"{name}.key", tmp_path / f"{name}.csr"
        key.write_text(authority.new_key())
        request.write_text(openssl.run("req", "-new", "-config", "/dev/null", "-subj", f"/CN={name}", "-key", key))
        (tmp_path / "extensions").write_text(extensions)
        signer = tmp_path / issuer
        by: list[str | Path] = ["-CA", signer.with_suffix(".crt"), "-CAkey", signer.with_suffix(".key")]
        if name == issuer:
            by = ["-signkey", key]
        words: list[str | Path] = ["-set_serial", str(len(name)), "-days", "2", "-extfile", tmp_path / "extensions"]
        (tmp_path / f"{name}.crt").write_text(openssl.run("x509", "-req", "-in", request, *by, *words))
        return (tmp_path / f"{name}.crt").read_text()

    root = sign("root", "root", "basicConstraints=critical,CA:TRUE")
    between = sign("between", "root", "basicConstraints=critical,CA:TRUE")
    own = sign("own", "between", "basicConstraints=CA:FALSE")
    assert certificate.issued_by(own + between, root)
    assert not certificate.issued_by(own, root), "the intermediate one is missing"
    assert not certificate.issued_by(own + between, own)
