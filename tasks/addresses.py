"""Where `make up` left its addresses: `prefect.toml` in the project's folder, `reports.address` in `.flywheel/`.

Every `prefect` command that is run in the project's folder reads `prefect.toml`. A file of that name which a user wrote
is left alone. Nothing here imports Prefect.
"""

import json
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flywheel.paths import Paths

PREFECT_TOML = "prefect.toml"
MARK = "# Written by 'make up', removed by 'make down'."
REPORTS_ADDRESS = "reports.address"
SECONDS_TO_ANSWER = 3.0

# straight to this machine, whatever proxy the shell names
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def write_prefect_toml(project: Path, api_url: str, prefect_home: str) -> bool:
    """Lead the Prefect commands of this folder to `api_url`; False where a user's own file stands there."""
    file = project / PREFECT_TOML
    if file.exists() and not _ours(file):
        return False
    text = f"{MARK}\nhome = {json.dumps(prefect_home)}\n\n[api]\nurl = {json.dumps(api_url)}\n"
    file.write_text(text + "\n[server]\nanalytics_enabled = false\n", encoding="utf-8")
    return True


def prefect_api_url(project: Path) -> str | None:
    """The address that `make up` wrote, whether or not a server still answers there."""
    try:
        return str(_written(project)["api"]["url"])
    except (KeyError, TypeError):
        return None


def prefect_home(project: Path) -> str:
    """Of the server that `make up` started; empty where nothing tells."""
    return str(_written(project).get("home", ""))


def _written(project: Path) -> dict[str, Any]:
    file = project / PREFECT_TOML
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if _ours(file) else {}
    except tomllib.TOMLDecodeError:
        return {}


def remove_prefect_toml(project: Path) -> None:
    if _ours(project / PREFECT_TOML):
        (project / PREFECT_TOML).unlink(missing_ok=True)


def answers(url: str, seconds: float = SECONDS_TO_ANSWER) -> bool:
    """Whether an HTTP server gives 200 there."""
    try:
        with _direct.open(url, timeout=seconds) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def page_url(page: Path, paths: Paths) -> str | None:
    """The address of a file under `reports/`, while `make up` serves it; else None."""
    try:
        address = (paths.state / REPORTS_ADDRESS).read_text(encoding="utf-8").strip()
        inside = page.resolve().relative_to(paths.reports.resolve())
    except (OSError, ValueError):
        return None
    return f"{address}/{quote(inside.as_posix())}" if answers(f"{address}/") else None


def _ours(file: Path) -> bool:
    try:
        return file.read_text(encoding="utf-8").startswith(MARK)
    except (OSError, UnicodeDecodeError):
        return False
