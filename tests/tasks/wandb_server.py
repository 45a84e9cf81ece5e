"""A stand-in for the W&B server on 127.0.0.1: as much of it as wandb-core asks for to begin, feed and finish a run.

It answers the GraphQL operations by their names, takes a run's stream of lines and the uploads that it gave addresses
for, and keeps all it received. It can be ended in mid-run, and begin again at the same port.
"""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"  # well-formed, and nobody's
ENTITY = "someone"
HISTORY = "wandb-history.jsonl"


class WandbServer:
    """Listens from `begin` to `end`; what it received stays readable."""

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.keys: set[str] = set()
        self.runs: dict[str, dict[str, Any]] = {}
        self.streamed: dict[str, list[dict[str, Any]]] = {}  # by run: the bodies of its stream, in order
        self.uploads: dict[str, bytes] = {}
        self.artifacts: dict[str, str] = {}  # name: id, of those that were committed
        self.goes_with_the_first_rows = False  # ends itself when it gets the first rows of a run, with no answer
        self.refuses = 0  # a status: the answer to every question
        self._made: dict[str, str] = {}
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_there(self) -> bool:
        return self._server is not None

    def begin(self) -> "WandbServer":
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def end(self) -> None:
        """As if its machine went: nothing listens at the port any more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> "WandbServer":
        return self if self._server else self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()

    def rows(self, run: str) -> list[dict[str, Any]]:
        """What was logged to a run, in order; what is sent again counts once, by its place in the file."""
        found: dict[int, str] = {}
        for body in self.streamed.get(run, []):
            if file := (body.get("files") or {}).get(HISTORY):
                found.update(enumerate(file["content"], file["offset"]))
        return [json.loads(found[place]) for place in sorted(found)]

    def is_complete(self, run: str) -> bool:
        return any(body.get("complete") for body in self.streamed.get(run, []))

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL operation; what is not known here is null, as a server without the feature says."""
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query
        self.operations.append(name)
        answer = getattr(self, f"_{name}", None)
        return answer(given) if answer else {}

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the operation's name
        viewer = {"id": "user-1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": None}

    def _RunResumeStatus(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"model": None}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.setdefault(given["name"], {})
        run.update({key: value for key, value in given.items() if value is not None})
        project = {"id": "p-1", "name": run.get("project", ""), "entity": {"id": "e-1", "name": ENTITY}}
        bucket = {
            "id": f"id-{given['name']}",
            "name": given["name"],
            "displayName": run.get("displayName"),
            "description": None,
            "config": run.get("config"),
            "sweepName": None,
            "project": project,
            "historyLineCount": 0,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"name": name, "uploadUrl": self._address(f"{given['run']}/{name}")} for name in given["files"]]
        return {"createRunFiles": {"runID": f"id-{given['run']}", "uploadHeaders": [], "files": files}}

    def _MarkRunFilesUploaded(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"markRunFilesUploaded": {"success": True}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = given["input"]["artifactCollectionName"]
        made = f"artifact-{len(self._made)}"
        self._made[made] = name
        artifact = {"id": made, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"createArtifactManifest": {"artifactManifest": self._manifest(f"m-{given['artifactID']}")}}

    def _UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(given["artifactManifestID"])}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = [
            {
                "node": {
                    "storagePath": f"{each['artifactID']}/{each['name']}",
                    "uploadUrl": self._address(f"{each['artifactID']}/{each['name']}"),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": each["artifactID"]},
                }
            }
            for each in given["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.artifacts[self._made[given["artifactID"]]] = given["artifactID"]
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}

    def _manifest(self, name: str) -> dict[str, Any]:
        file = {"id": f"file-{name}", "uploadUrl": self._address(name), "uploadHeaders": []}
        return {"id": name, "file": file}

    def _address(self, name: str) -> str:
        return f"{self.url}/storage/{name}"


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    stand_in: WandbServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply({}, self.stand_in.refuses or 200)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}")
        if self.stand_in.refuses:
            self._reply({"errors": [{"message": "user is not logged in"}]}, self.stand_in.refuses)
            return
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            self.stand_in.keys.add(base64.b64decode(given).decode().partition(":")[2])
        if self.path.endswith("/graphql"):
            self._reply({"data": self.stand_in.answer(body["query"], body.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            self.stand_in.streamed.setdefault(self.path.split("/")[-2], []).append(body)
            if self.stand_in.goes_with_the_first_rows and HISTORY in (body.get("files") or {}):
                self.stand_in.goes_with_the_first_rows = False
                self.stand_in.end()
            self._reply({})
        else:
            self._reply({}, 404)

    def do_PUT(self) -> None:
        self.stand_in.uploads[self.path.removeprefix("/storage/")] = self._body()
        self._reply({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, document: dict[str, Any], status: int = 200) -> None:
        if not self.stand_in.is_there:  # a connection that was open is cut too
            self.close_connection = True
            return
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass
