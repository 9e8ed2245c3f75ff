"""`onebox label` as a server: labels survive its sudden death, tabs and other pages cannot harm each other, and
whatever lies in the folder, it says so in a line."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from onebox.dataset import load_dataset
from onebox.errors import RunFolderError
from onebox.labelling.lock import FolderLock
from onebox.labelling.session import Session
from onebox.web.label import label_app
from tests.label_client import Client, at_work
from tests.small_runs import ROOT, here, shell, untouched
from tests.small_sets import jpeg, picture, text
from tests.web_process import running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        picture(tmp_path / "set" / name)
    return tmp_path / "set"


@pytest.mark.slow
def test_every_acknowledged_label_survives_kill_9(tmp_path: Path) -> None:
    """500 labels over ten sudden deaths, each between an answer and the next request, or in the middle of one."""
    folder = tmp_path / "set"
    for i in range(250):
        picture(folder / f"{i:03}.jpg")
    dice, acknowledged, kills = random.Random(0), {}, 0
    count = 0
    while count < 500:
        with running("label", folder, "--classes", "cat,dog") as server:
            tab = Client(server.url)
            pictures = tab.pictures()
            for name, said in acknowledged.items():
                assert {key: pictures[name][key] for key in said} == said
            for _ in range(50):
                name = f"{count % 250:03}.jpg"
                box = [dice.randint(0, 40), dice.randint(0, 30), dice.randint(50, 100), dice.randint(40, 80)]
                said = {"state": "none"} if count % 7 == 0 else {"state": "box", "label": "cat", "box": box}
                answer = tab.put(pictures[name], **said)
                assert answer.status == 200, answer.data
                pictures[name] = answer.data
                acknowledged[name] = said
                count += 1
            # a request on its way when it dies: written wholly or not at all
            left = f"{count % 250:03}.jpg"
            body = json.dumps({"state": "none", "revision": pictures[left]["revision"]}).encode()
            acknowledged.pop(left, None)
            with socket.create_connection(("127.0.0.1", server.port)) as wire:
                head = f"PUT /api/pictures/{pictures[left]['id']} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                head += f"Authorization: Bearer {tab.secret}\r\nContent-Type: application/json\r\n"
                wire.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                if kills % 2:
                    wire.settimeout(0.004)
                    with contextlib.suppress(TimeoutError):
                        wire.recv(10)
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
            kills += 1
    assert (count, kills) == (500, 10)
    data = {Path(s.path).name: s for s in load_dataset(folder)}
    for name, said in acknowledged.items():
        box = data[name].box
        assert (data[name].label, list(box.xyxy) if box else None) == (said.get("label"), said.get("box"))
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert len(rows) == len({row.get("picture") for row in rows})


def test_two_tabs_and_undo(folder: Path) -> None:
    with at_work(folder, "cat") as one:
        two = Client(one.url, one.app)
        seen = two.pictures()["a.jpg"]
        first = one.put(one.pictures()["a.jpg"], state="box", label="cat", box=[1, 2, 30, 40])
        assert (first.status, first.data["revision"]) == (200, 1)
        stale = two.put(seen, state="none")
        assert stale.status == 409
        assert stale.data["now"]["box"] == [1, 2, 30, 40]
        assert stale.data["error"]["what"] == "this picture was changed in another tab"
        changed = two.ask("GET", "/api/progress?since=0").data["changed"]
        assert [one["name"] for one in changed] == ["a.jpg"]
        assert two.put(stale.data["now"], state="open").data["state"] == "open"
        assert (folder / "labels.jsonl").read_text() == '{"onebox": 1, "classes": ["cat"]}\n'


def test_a_second_process_on_the_folder_says_so(folder: Path) -> None:
    with running("label", folder) as server:
        here("label", folder).says(r"another `onebox label` is at work on this folder \(http://127.0.0.1:\d+/\)")
        server.process.kill()
        server.process.wait()
        with FolderLock(folder / ".onebox"), pytest.raises(RunFolderError, match="another"):
            FolderLock(folder / ".onebox").__enter__()


def test_no_other_page_reads_or_writes(folder: Path) -> None:
    with at_work(folder, "cat") as tab:
        path = f"/api/pictures/{tab.pictures()['a.jpg']['id']}"
        said = {"revision": 0, "state": "none"}
        assert tab.ask("PUT", path, said, secret=False).status == 401
        assert tab.ask("PUT", path, said, Authorization="Bearer wrong").status == 401
        assert tab.ask("PUT", path, said, Origin="http://evil.example").status == 403
        assert tab.ask("PUT", path, said, Origin="http://127.0.0.1:1").status == 403
        assert tab.ask("PUT", path, said, Sec_Fetch_Site="cross-site").status == 403
        assert tab.ask("PUT", path, said, Host="evil.example").status == 421
        assert tab.ask("GET", "/", secret=False, Host="evil.example").status == 421
        for asked in ("/api/state", "/api/order", "/api/progress?since=0"):
            assert tab.ask("GET", asked, secret=False).status == 401
        for method, asked in (("POST", "/api/train"), ("POST", "/api/check"), ("POST", "/api/pictures?name=x.jpg")):
            assert tab.ask(method, asked, b"", secret=False).status == 401
        front = tab.ask("GET", "/", secret=False)
        assert "default-src 'none'" in front.headers["content-security-policy"]
        assert "unsafe" not in front.headers["content-security-policy"]
        assert front.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in front.headers
        assert tab.ask("PUT", path, said, Origin=tab.url).status == 200
    with at_work(folder) as later:  # the secret is another one at every start
        assert later.ask("GET", "/api/state", Authorization=f"Bearer {tab.secret}").status == 401
    here("label", folder, "--host", "0.0.0.0").says("lets other machines in, and there is no token")


def test_with_a_token_the_page_comes_without_the_secret(folder: Path) -> None:
    session = Session(str(folder))
    with TestClient(label_app(session, token="a-token-of-some-length"), base_url="http://127.0.0.1") as app:
        front = app.get("/")
        assert (front.status_code, "a-token" in front.text) == (200, False)
        ident = session.state()["pictures"][0]["id"]
        for path in ("/api/state", f"/view/{ident}", f"/thumb/{ident}"):
            assert app.get(path).status_code == 401
            assert app.get(path, headers={"Authorization": "Bearer a-token-of-some-length"}).status_code == 200
    session.close()


def test_malformed_requests_are_answered_and_nothing_is_written(folder: Path) -> None:
    with at_work(folder, "cat") as tab:
        path = f"/api/pictures/{tab.pictures()['a.jpg']['id']}"
        good = {"revision": 0, "state": "box", "label": "cat", "box": [1, 2, 3, 4]}
        for change, status in (
            ({"box": None}, 422),
            ({"box": [1, 2, 3]}, 422),
            ({"box": [1, 2, 3, "x"]}, 422),
            ({"box": [5, 5, 5, 5]}, 422),
            ({"box": [500, 500, 600, 600]}, 422),
            ({"box": [float("nan"), 2, 3, 4]}, 422),
            ({"box": [1e300, -1e300, 3, 4]}, 422),
            ({"label": "dog"}, 422),
            ({"label": None}, 422),
            ({"state": "none"}, 422),
            ({"state": "both"}, 422),
            ({"revision": 7}, 409),
            ({"more": 1}, 422),
        ):
            answer = tab.ask("PUT", path, {**good, **change})
            assert answer.status == status, (change, answer.data)
            assert str(folder) not in answer.raw.decode()
        for body in (b"", b"{", b"[]", b"\xff", b'{"a":' * 3000):
            assert tab.ask("PUT", path, body, Content_Type="application/json").status in {400, 422}
        assert tab.ask("PUT", "/api/pictures/0", good).status == 404
        for wrong in (
            "/view/..%2f..%2fetc%2fpasswd",
            "/thumb/x",
            "/static/../label.py",
            "/static/label.py",
            "/nothing",
        ):
            assert tab.ask("GET", wrong).status == 404
        assert tab.ask("GET", "/api/progress?since=x").status == 422
        assert tab.ask("GET", "/api/progress?since=-5").status == 200
        for name in ("", " ", "\n", "x" * 101, "\x00"):
            assert tab.ask("POST", "/api/classes", {"name": name}).status == 422
        assert not (folder / "labels.jsonl").exists()


def test_pictures_come_in_under_safe_new_names(folder: Path) -> None:
    with at_work(folder) as tab:
        other = jpeg(60, 50)
        with untouched(folder / "sub"):
            for name, expected in (
                ("a.jpg", "a-2.jpg"),
                ("a.jpg", "a-2.jpg"),  # the very same again: there already
                ("../../evil.jpg", "evil.jpg"),
                ("C:\\temp\\evil two.JPG", "evil two.JPG"),
                (".hidden.jpg", "_hidden.jpg"),
                ("photo.png", "photo.jpg"),  # by what it is
                ("noname", "noname.jpg"),
                ("<img src=x>.jpg", "_img src=x_.jpg"),
            ):
                answer = tab.ask("POST", f"/api/pictures?name={_quoted(name)}", other)
                assert (answer.status, answer.data.get("name")) == (200, expected)
                assert (folder / expected).read_bytes() == other
        assert (folder / "a.jpg").read_bytes() == jpeg()
        new = tab.pictures()["evil.jpg"]
        assert tab.ask("GET", f"/view/{new['id']}").headers["x-picture-size"] == "60x50"
        before = sorted(folder.iterdir())
        bomb = b"P6 60000 60000 255 "
        for content in (b"", b"hello", other[:300], bomb):
            assert tab.ask("POST", "/api/pictures?name=b.jpg", content).status == 422
        assert tab.ask("POST", "/api/pictures?name=b.jpg", bytes(65 << 20)).status == 413
        assert sorted(folder.iterdir()) == before


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def test_pictures_are_shown_upright_and_the_unreadable_with_their_reason(folder: Path) -> None:
    turned = Image.new("RGB", (120, 60))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "a.jpg", exif=exif)
    (folder / "b.jpg").write_bytes(jpeg()[:200])
    with at_work(folder) as tab:
        pictures = tab.pictures()
        shown = tab.ask("GET", f"/view/{pictures['a.jpg']['id']}")
        assert (shown.headers["content-type"], shown.headers["x-picture-size"]) == ("image/jpeg", "60x120")
        broken = tab.ask("GET", f"/view/{pictures['b.jpg']['id']}")
        assert broken.status == 422
        assert "cannot read this picture" in broken.data["error"]["what"]
        assert "cannot read" in tab.pictures()["b.jpg"]["unreadable"]


def test_an_empty_folder_is_a_beginning_and_others_are_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with at_work(tmp_path / "empty", "cat") as tab:
        assert tab.state()["pictures"] == []
        new = tab.ask("POST", "/api/pictures?name=first.jpg", jpeg()).data
        assert tab.put(new, state="box", label="cat", box=[1, 1, 9, 9]).status == 200
    assert len(load_dataset(tmp_path / "empty").labelled) == 1
    here("label", tmp_path / "none").says("no such folder")
    text(tmp_path / "file", "")
    here("label", tmp_path / "file").says("this is a file")
    text(tmp_path / "empty" / "labels.jsonl", '{"image": 1}\n')
    here("label", tmp_path / "empty").says(r"labels.jsonl: no label file of onebox \(line 1")
    assert (tmp_path / "empty" / "labels.jsonl").read_text() == '{"image": 1}\n'
    here("label", tmp_path / "empty", "--imgsz", "7").says("imgsz is 7")
    here("label", tmp_path / "empty", "--model", tmp_path / "none").says("no such model file")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder here that even root cannot write to")
def test_a_folder_without_rights_is_said() -> None:
    here("label", "/sys/kernel").says("cannot write here")


def test_ten_thousand_pictures_are_listed_fast(tmp_path: Path) -> None:
    content = jpeg()
    for i in range(100):
        (tmp_path / f"{i:02}").mkdir()
        for j in range(100):
            (tmp_path / f"{i:02}" / f"{j}.jpg").write_bytes(content)
    with at_work(tmp_path, "cat") as tab:
        pictures = tab.pictures()
        assert len(pictures) == 10_000
        answer = tab.put(pictures["07/7.jpg"], state="none")
        assert answer.status == 200
        assert len(tab.ask("GET", "/api/progress?since=0").data["changed"]) == 1


def test_it_needs_the_serve_extra(folder: Path, tmp_path: Path) -> None:
    text(tmp_path / "no" / "fastapi" / "__init__.py", "raise ModuleNotFoundError('gone', name='fastapi')\n")
    done = shell("label", folder, PYTHONPATH=os.pathsep.join([str(tmp_path / "no"), str(ROOT)]))
    done.says(r'needs fastapi, which is not installed. pip install "onebox\[serve\]"')
