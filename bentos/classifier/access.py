"""Who may ask: API keys with scopes, or nobody but this machine where there are none.

The keys come from the environment; here they are hashes from the first moment on, so none can be logged. This guard
stands before every route, BentoML's own included.
"""

import hashlib
import hmac
import ipaddress
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.classifier.errors import Refusal
from bentos.classifier.rate_limit import RateLimit

log = logging.getLogger(__name__)

SHORTEST_SECRET = 16
ENTRY = re.compile(r"(?P<id>[A-Za-z0-9_.-]{1,64}):(?P<scopes>[a-z+]+):(?P<secret>\S+)")
OPEN = frozenset({"/healthz", "/livez", "/readyz"})  # whoever starts and stops services asks these
SETTING = "FLYWHEEL_SERVICE_KEYS"
FORMAT = "id:scope+scope:secret, separated by spaces, with scopes predict, feedback and admin"
HOW = "Send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'."


class Scopes(StrEnum):
    PREDICT = "predict"
    FEEDBACK = "feedback"
    ADMIN = "admin"  # everything


@dataclass(frozen=True)
class Key:
    """A client. The secret itself is nowhere."""

    id: str
    scopes: frozenset[Scopes]
    digest: bytes


def read_keys(text: str) -> tuple[Key, ...]:
    """The keys of a setting's text. Raises ValueError, which names an entry by its place alone: what stands where the
    id is expected may be the secret."""
    keys = tuple(_key(place, entry) for place, entry in enumerate(text.split(), 1))
    places: dict[str, int] = {}
    for place, key in enumerate(keys, 1):
        if (first := places.setdefault(key.id, place)) != place:
            raise ValueError(f"{SETTING}, entries {first} and {place}: an id of its own for each key expected.")
    return keys


def _key(place: int, entry: str) -> Key:
    found = ENTRY.fullmatch(entry)
    if found is None:
        raise ValueError(f"{SETTING}, entry {place}: expected {FORMAT}.")
    identity, secret = found["id"], found["secret"]
    try:
        scopes = frozenset(Scopes(scope) for scope in found["scopes"].split("+"))
    except ValueError:
        raise ValueError(f"{SETTING}, entry {place}: unknown scope. Expected {FORMAT}.") from None
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(
            f"{SETTING}, entry {place}: a secret of at least {SHORTEST_SECRET} characters expected. "
            "'python -c \"import secrets; print(secrets.token_urlsafe())\"' makes one."
        )
    return Key(identity, scopes, _digest(secret.encode()))


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def scope_of(path: str) -> Scopes | None:
    """What a path asks for; None where any key will do."""
    if path in {"/classify", "/classify_batch", "/model"}:
        return Scopes.PREDICT
    if path in {"/feedback", "/queue"} or path.startswith("/queue/"):
        return Scopes.FEEDBACK
    return Scopes.ADMIN if path == "/metrics" else None


class Access:
    """ASGI middleware: 401, 403 and 429 before anything of a request's body is read."""

    def __init__(
        self, app: ASGIApp, keys: tuple[Key, ...], limit: Callable[[], RateLimit | None] = lambda: None
    ) -> None:
        self.app = app
        self._keys: Mapping[str, Key] = {key.id: key for key in keys}
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        try:
            client = self._admit(scope)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
            return
        scope.setdefault("state", {})["client"] = client
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> str:
        """The key's id; empty where no keys are set and the client is this machine. Raises Refusal."""
        if not self._keys:
            _demand_loopback(scope)
            return ""
        key = self._known(_secret(scope))
        wanted = scope_of(scope["path"])
        if wanted and not {wanted, Scopes.ADMIN} & key.scopes:
            message = f"The key '{key.id}' has no scope '{wanted}'."
            raise Refusal(403, "missing_scope", message, "Ask the operator for a key with this scope.")
        limit = self._limit()
        if limit is not None and (seconds := limit.wait_for(key.id)) > 0:
            message = f"The key '{key.id}' has asked too often."
            after = {"Retry-After": str(math.ceil(seconds))}
            raise Refusal(429, "too_many_requests", message, "Try again after the seconds in Retry-After.", after)
        return key.id

    def _known(self, secret: bytes) -> Key:
        """Compared with every key, in a time that tells nothing."""
        if not secret:
            raise Refusal(401, "no_key", "An API key is asked for, none was sent.", HOW, {"WWW-Authenticate": "Bearer"})
        digest = _digest(secret)
        found = [key for key in self._keys.values() if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise Refusal(401, "unknown_key", "This API key is not known here.", HOW, {"WWW-Authenticate": "Bearer"})
        return found[0]


def _secret(scope: Scope) -> bytes:
    headers: dict[bytes, bytes] = dict(scope["headers"])  # ASGI has their names in lower case
    kind, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()


def _demand_loopback(scope: Scope) -> None:
    """Without keys a service answers this machine only, wherever it was told to listen."""
    client = scope.get("client")
    if client is None or _is_loopback(client[0]):  # no address: a socket of this machine
        return
    message = "Without API keys this service answers its own machine only."
    raise Refusal(403, "no_keys_set", message, "The operator sets FLYWHEEL_SERVICE_KEYS to let others in.")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in {"localhost", "testclient"}
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
