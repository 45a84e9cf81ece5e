"""`prefect.toml` is ours only where we wrote it."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flywheel.paths import Paths
from tasks.addresses import (
    PREFECT_TOML,
    REPORTS_ADDRESS,
    answers,
    page_url,
    prefect_api_url,
    remove_prefect_toml,
    write_prefect_toml,
)

URL = "http://127.0.0.1:4299/api"


def test_what_was_written_is_read_and_removed(tmp_path: Path) -> None:
    home = str(tmp_path / 'a "quoted" home')
    assert prefect_api_url(tmp_path) is None
    assert write_prefect_toml(tmp_path, URL, home)
    assert prefect_api_url(tmp_path) == URL
    assert write_prefect_toml(tmp_path, "http://127.0.0.1:4300/api", home)
    assert prefect_api_url(tmp_path) == "http://127.0.0.1:4300/api"
    remove_prefect_toml(tmp_path)
    assert not (tmp_path / PREFECT_TOML).exists()


def test_a_users_own_file_is_left_alone(tmp_path: Path) -> None:
    text = '[api]\nurl = "https://prefect.example/api"\n'
    (tmp_path / PREFECT_TOML).write_text(text)
    assert not write_prefect_toml(tmp_path, URL, str(tmp_path))
    assert prefect_api_url(tmp_path) is None
    remove_prefect_toml(tmp_path)
    assert (tmp_path / PREFECT_TOML).read_text() == text


def test_nobody_answers_at_a_free_port(free_port: int) -> None:
    assert not answers(f"http://127.0.0.1:{free_port}/api/health")


def test_a_page_has_an_address_while_it_is_served(tmp_path: Path, free_port: int) -> None:
    paths = Paths(tmp_path)
    page = paths.reports / "data docs" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("docs")
    paths.state.mkdir()
    assert page_url(page, paths) is None
    (paths.state / REPORTS_ADDRESS).write_text(f"http://127.0.0.1:{free_port}\n")
    assert page_url(page, paths) is None, "nothing is served there"
    server = ThreadingHTTPServer(("127.0.0.1", free_port), SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert page_url(page, paths) == f"http://127.0.0.1:{free_port}/data%20docs/index.html"
        assert page_url(tmp_path / "elsewhere.html", paths) is None
    finally:
        server.shutdown()
        server.server_close()
