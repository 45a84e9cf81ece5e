"""`/docs` by this service alone: Swagger UI's files lie in BentoML's package, and a browser asks no other host for any.

FastAPI's own page takes them from a CDN, and in a closed network stays blank.
"""

from html import escape
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

from bentos.classifier.errors import Refusal

SCRIPT, STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
KINDS = {SCRIPT: "text/javascript", STYLE: "text/css"}
CACHED = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}
# Links are relative, so that they hold behind a proxy's prefix. What stands in the middle is replaced by the script;
# its badge would show the document to a validator elsewhere.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/{style}">
</head>
<body>
<div id="routes"><h1>{title}</h1><p>This page needs its script, which did not run. The routes, what they take and what
they answer stand in <a href="{document}">{document}</a>.</p></div>
<script src="docs/{script}"></script>
<script>SwaggerUIBundle({{url: "{document}", dom_id: "#routes", deepLinking: true, validatorUrl: null}})</script>
</body>
</html>
"""


def add_docs_page(app: FastAPI) -> None:
    """`/docs` and the two files that it needs; where BentoML has them no more, the page says where the routes stand."""
    page = PAGE.format(title=escape(app.title), document=str(app.openapi_url).lstrip("/"), style=STYLE, script=SCRIPT)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/docs/{name}", include_in_schema=False)
    async def docs_file(name: str) -> FileResponse:
        file = ui_folder() / name
        if name not in KINDS or not file.is_file():
            raise Refusal(404, "no_such_path", f"/docs has no file '{name[:50]}'.", "GET /docs shows the routes.")
        return FileResponse(file, media_type=KINDS[name], headers=CACHED)


def ui_folder() -> Path:
    """Found without importing BentoML, which takes seconds."""
    spec = find_spec("bentoml")
    places = (spec.submodule_search_locations if spec else None) or [""]
    return Path(places[0], "_internal", "server", "static_content")
