"""The one shape of every refusal: `{"error": {"code", "message", "hint"}}`."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

CODES = {404: "no_such_path", 405: "method_not_allowed"}
INTERNAL = "internal_error"


class ErrorDetail(BaseModel):
    code: str = Field(description="A stable word that a program can branch on.", examples=["not_an_image"])
    message: str = Field(description="What is wrong with this request.")
    hint: str = Field(description="What is accepted.")


class ErrorAnswer(BaseModel):
    error: ErrorDetail


class Refusal(Exception):  # noqa: N818 - it is an answer first
    """A request that can't be answered, and what the client is told about it."""

    def __init__(self, status: int, code: str, message: str, hint: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, dict[str, str]]:
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, headers=self.headers)


def refusal_for_status(status: int, method: str, path: str, detail: str) -> Refusal:
    """What a framework says with nothing but a status, in the one shape."""
    code = CODES.get(status, "bad_request" if status < 500 else INTERNAL)
    hint = "POST /classify, POST /classify_batch and GET /model are served here; see /docs."
    return Refusal(status, code, f"{method} {path[:200]}: {detail}.", hint)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"])
    return Refusal(422, "invalid_parameter", f"{where}: {first['msg']}.", "See /docs for what is accepted.").response()


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    refusal = refusal_for_status(error.status_code, request.method, request.url.path, error.detail)
    return JSONResponse(refusal.body, error.status_code, headers=error.headers)


async def _otherwise(_: Request, error: Exception) -> JSONResponse:
    return refusal_of(error).response()


def refusal_of(error: Exception) -> Refusal:
    """What a client is told about an error of our own code, or of its connection."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ClientDisconnect):
        return Refusal(400, "incomplete_body", "The body ended before it was whole.", "Send it again.")
    message = "The service failed on this request; the reason is in its log."
    return Refusal(500, INTERNAL, message, "Try again; if it stays, tell the operator.")


def answer_errors_in_one_shape(app: FastAPI) -> None:
    """Every way to fail, the framework's own included, ends in the one shape."""
    app.add_exception_handler(Refusal, _otherwise)
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _otherwise)
    app.add_exception_handler(Exception, _otherwise)
