"""The floor of any Python service here: uvicorn, a body that is read, a constant answer. `python -m … <port>`"""

import sys
from typing import Any

import uvicorn

ANSWER = b'{"label": "' + b"x" * 400 + b'"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(f"{__spec__.name}:app", port=int(sys.argv[1]), workers=2, access_log=False, log_level="warning")
