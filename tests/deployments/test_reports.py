"""The reports are read on this machine, and nothing beside them is."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.reports import make_server


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    folder = tmp_path / "reports"
    (folder / "data_docs").mkdir(parents=True)
    (folder / "data_docs" / "a page.html").write_text("<p>docs</p>")
    (folder / ".hidden").write_text("hidden")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    server = make_server(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


def ask(port: int, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_report_is_served(port: int) -> None:
    assert ask(port, "/data_docs/a%20page.html") == (200, "<p>docs</p>")
    assert ask(port, "/")[0] == 200


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/link.txt", "/.hidden", "//etc/passwd"])
def test_what_lies_beside_the_reports_is_not(path: str, port: int) -> None:
    status, text = ask(port, path)
    assert status == 404
    assert "secret" not in text


def test_a_page_of_another_site_can_not_read_them(port: int) -> None:
    assert ask(port, "/", host=f"evil.example:{port}")[0] == 403


def test_nothing_can_be_written(port: int) -> None:
    assert ask(port, "/new.html", method="PUT")[0] == 501


def test_only_this_machine_is_listened_to(tmp_path: Path) -> None:
    server = make_server(tmp_path, 0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()
