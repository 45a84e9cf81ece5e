"""`python -m deployments.reports PORT`: the folder `reports/`, and nothing else, read-only on 127.0.0.1."""

import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from flywheel.settings import Settings

HOST = "127.0.0.1"


class ReportsHandler(SimpleHTTPRequestHandler):
    """Files that lie in the folder itself: no link leads out of it, and no other site's page reads from it."""

    # Prometheus scrapes nothing whose kind it isn't told
    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".prom": "text/plain; version=0.0.4; charset=utf-8",
    }

    def __init__(self, *args: Any, directory: str, **kwargs: Any) -> None:
        self._root = Path(directory).resolve()
        super().__init__(*args, directory=directory, **kwargs)

    def send_head(self) -> Any:
        if self.headers.get("Host", "").rpartition(":")[0] not in {HOST, "localhost"}:
            return self.send_error(HTTPStatus.FORBIDDEN, "Ask by the address that make up prints")
        asked = Path(self.translate_path(self.path)).resolve()
        hidden = (
            any(part.startswith(".") for part in asked.relative_to(self._root).parts) if self._inside(asked) else True
        )
        if hidden:
            return self.send_error(HTTPStatus.NOT_FOUND, "No such report")
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def _inside(self, path: Path) -> bool:
        return path == self._root or self._root in path.parents


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Bound to this machine only; port 0 takes a free one."""

    def handler(*args: Any, **kwargs: Any) -> ReportsHandler:
        return ReportsHandler(*args, directory=str(folder), **kwargs)

    return ThreadingHTTPServer((HOST, port), handler)


def main(arguments: list[str]) -> None:
    folder = Settings().paths.reports
    folder.mkdir(parents=True, exist_ok=True)
    make_server(folder, int(arguments[0])).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
