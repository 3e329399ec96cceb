"""The command line over data: encrypted values, keys that change, attributes, calls that move."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fenbu import Encryption
from tests.cli.test_commands import Shell, until
from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

SHOP = """
import os
from fenbu import App, Encryption, Entity, Lazy, set_attributes, step, wait_signal

app = App("shop", idle_seconds=0.1, hook=Encryption(os.environ["SHOP_KEYS"].split()))

async def charge(card: str) -> str:
    return f"charged {card}"

@app.entity
class Notes(Entity):
    count: int = 0
    lines: Lazy[list[str]]

    async def write(self, line: str) -> None:
        self.count += 1
        self.lines.set([*await self.lines.get(), line])

@app.workflow
async def checkout(card: str, total: float = 5.0) -> str:
    set_attributes(total=total, vip=total > 50)
    paid = await step(charge, card)
    return paid + await wait_signal("go", str)

@app.workflow
async def basket(card: str) -> str:
    return f"{await checkout(card)}, {await checkout.options(id='chosen')(card)}"
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("SHOP_KEYS", Encryption.new_key())
    made = Shell(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    return made


def test_values_are_read_with_the_app_and_hidden_without(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "checkout", "4711-0815", "total=75.5", "--id", "a")
        until(shell, "a", "suspended")
        assert "charged 4711-0815" in shell.says("show", "a")
        assert shell.json("show", "a")["attributes"] == {"total": 75.5, "vip": True}
        assert [each["id"] for each in shell.json("ls", "--where", "total>70")] == ["a"]
        assert shell.json("ls", "--where", "vip=true", "--where", "total<=5") == []
        assert "write customer=7" in shell.refuses("ls", "--where", "total")
        given = ("--attribute", "city=Oslo", "--attribute", "customer=7")
        shell.says("start", "checkout", "4711-0816", "--id", "b", *given)
        until(shell, "b", "suspended")
        assert shell.json("show", "b")["attributes"] == {
            "city": "Oslo", "customer": 7, "total": 5.0, "vip": False,
        }  # fmt: skip
        assert [each["id"] for each in shell.json("ls", "--where", "customer=7")] == ["b"]
        for wrong in ("city", "city=null", "city=[1]", "=7"):
            shell.refuses("start", "checkout", "x", "--id", "c", "--attribute", wrong)


def test_lazy_fields_are_named_with_their_size(shell: Shell) -> None:
    shell.says("call", "Notes.write", "4711-0815", "--key", "a", "--here")
    shown = shell.says("entity", "show", "Notes", "a")
    assert '{"count":1}' in shown
    assert "lazy lines " in shown
    assert "4711-0815" not in shown
    found = shell.json("entity", "show", "Notes", "a")
    assert found["state"] == {"count": 1}
    assert list(found["lazy"]) == ["lines"]
    assert found["lazy"]["lines"] > len('["4711-0815"]')  # as it is stored
    assert shell.json("entity", "ls", "Notes")[0]["lazy"] == ["lines"]
    (call,) = shell.json("ls", "--handler", "Notes.write")
    assert "sees lines" in shell.says("show", call["id"])


def test_a_key_is_retired(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Encryption.new_key(), Encryption.new_key()
    monkeypatch.setenv("SHOP_KEYS", old)
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "checkout", "4711-0815", "--id", "a")
        until(shell, "a", "suspended")
    monkeypatch.setenv("SHOP_KEYS", f"{new} {old}")
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        first = shell.json("rekey")
        assert (first["calls"], first["unreadable"], first["rewritten"]) == (1, 0, 2)
        assert "0 rows rewritten" in shell.says("rekey")
    monkeypatch.setenv("SHOP_KEYS", old)
    assert "under keys that this app does not have" in shell.refuses("rekey")
    monkeypatch.setenv("SHOP_KEYS", new)
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("signal", "a", "go", "!")
        assert json.loads(shell.says("call", "checkout", "x", "--id", "a")) == "charged 4711-0815!"


def test_a_call_moves_to_another_database(shell: Shell) -> None:
    file, other = shell.folder / "a.json", f"sqlite:///{shell.folder}/other.db"
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "checkout", "4711-0815", "--id", "a")
        until(shell, "a", "suspended")
        shell.says("export", "a", "-o", str(file))
        assert "there is a call a already" in shell.refuses("import", str(file))
    assert "4711-0815" in file.read_text()
    with NodeProcess(other, app=shell.folder / "shop.py"):
        assert "waits for `fenbu retry`" in shell.says("import", str(file), "--url", other)
        shell.url = other
        until(shell, "a", "quarantined")
        shell.says("retry", "a")
        shell.says("signal", "a", "go", "!")
        assert json.loads(shell.says("call", "checkout", "x", "--id", "a")) == "charged 4711-0815!"
        assert "goes on under that id alone" in shell.refuses("import", str(file), "--id", "b")
    assert b"4711-0815" not in (shell.folder / "other.db").read_bytes()


def test_a_call_moves_with_its_children_and_their_mail(shell: Shell) -> None:
    file, other = shell.folder / "b.json", f"sqlite:///{shell.folder}/other.db"
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "basket", "4711-0815", "--id", "b")
        until(shell, "b/1", "suspended")
    shell.says("signal", "b/1", "go", "!")
    done = shell.run("export", "b", "-o", str(file))
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"{file}: {len(file.read_bytes()):,} bytes"]
    assert (
        "b, command 1: call checkout is not in the file (shop.py:"
        in shell.run("export", "b", "--alone").stderr
    )
    assert json.loads(file.read_text())["fenbu_history"] == 2
    assert "agrees with its journal of 0 events" in shell.says("replay", str(file))
    assert "agrees with its journal of 1 event" in shell.says("replay", str(file), "--call", "b/1")
    assert "has no call c, but b, b/1" in shell.refuses("replay", str(file), "--call", "c")
    with NodeProcess(other, app=shell.folder / "shop.py"):
        shell.url = other
        said = shell.says("import", str(file), "--go-on").splitlines()
        assert said == ["basket b is imported: it goes on", "checkout b/1 is imported: it goes on"]
        assert "there is a call b, b/1 already, and nothing was imported" in shell.refuses(
            "import", str(file)
        )
        until(shell, "chosen", "suspended")
        shell.says("signal", "chosen", "go", "?")
        assert (
            json.loads(shell.says("call", "basket", "x", "--id", "b"))
            == "charged 4711-0815!, charged 4711-0815?"
        )
