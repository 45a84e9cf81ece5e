"""Keys, scopes, the rate limit over all workers, and nobody but this machine where there are no keys."""

import logging
import multiprocessing
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from bentos.classifier.access import Access, read_keys
from bentos.classifier.rate_limit import RateLimit
from bentos.classifier.settings import ServiceSettings, said

SECRET, OTHER, ADMIN = "s3cret-of-alice-0123", "s3cret-of-bob-012345", "s3cret-of-root-01234"
KEYS = read_keys(f"alice:predict:{SECRET} bob:predict+feedback:{OTHER} root:admin:{ADMIN}")


async def told(scope, receive, send):
    await PlainTextResponse(scope["state"].get("client", "?"))(scope, receive, send)


def client(keys=KEYS, limit=None, address="127.0.0.1") -> TestClient:
    return TestClient(Access(told, keys, lambda: limit), client=(address, 5000))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("path", "secret", "status"),
    [
        ("/classify", SECRET, 200),
        ("/classify_batch", OTHER, 200),
        ("/model", SECRET, 200),
        ("/docs", SECRET, 200),
        ("/feedback", SECRET, 403),
        ("/feedback", OTHER, 200),
        ("/queue", SECRET, 403),
        ("/queue/x/image", SECRET, 403),
        ("/queue/x/image", OTHER, 200),
        ("/metrics", OTHER, 403),
        ("/metrics", ADMIN, 200),
        ("/feedback", ADMIN, 200),
        ("/classify", "", 401),
        ("/docs.json", "", 401),
        ("/nothing", "", 401),
        ("/classify", SECRET[:-1], 401),
        ("/healthz", "", 200),
        ("/readyz", "", 200),
    ],
)
def test_a_key_opens_what_its_scopes_say(path, secret, status):
    response = client().post(path, headers=bearer(secret) if secret else {})
    assert response.status_code == status
    if status != 200:
        assert set(response.json()["error"]) == {"code", "message", "hint"}
        assert secret == "" or secret not in response.text


def test_both_headers_are_taken_and_the_keys_id_goes_on():
    assert client().get("/classify", headers=bearer(SECRET)).text == "alice"
    assert client().get("/classify", headers={"X-API-Key": OTHER}).text == "bob"


def test_a_key_may_be_of_any_script():
    key = read_keys("zoe:predict:s3cret-of-zoë-0123456")
    assert client(key).get("/classify", headers={"X-API-Key": "s3cret-of-zoë-0123456".encode()}).text == "zoe"


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200)])
def test_without_keys_this_machine_is_answered(address, status):
    assert client((), address=address).get("/classify").status_code == status


@pytest.mark.parametrize("address", ["192.168.1.7", "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "example.org"])
def test_without_keys_nobody_else_is_answered(address):
    response = client((), address=address).get("/classify")
    assert (response.status_code, response.json()["error"]["code"]) == (403, "no_keys_set")
    assert client((), address=address).get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SECRET, "entry 1: expected id:scope"),
        (f"alice:everything:{SECRET}", "entry 1: unknown scope"),
        ("alice:predict:short", "entry 1: a secret of at least 16"),
        (f"{SECRET}:predict:alice", "entry 1: a secret of at least 16"),
        (f"{SECRET}:alice:predict", "entry 1: unknown scope"),
        (f"alice:predict:{SECRET} alice:predict:{OTHER}", "entries 1 and 2: an id of its own"),
    ],
)
def test_a_bad_key_is_refused_without_showing_it(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        read_keys(text)
    for secret in (SECRET, OTHER, "short"):
        assert secret not in str(refused.value)


def test_settings_and_logs_never_show_a_key(monkeypatch, caplog):
    monkeypatch.setenv("FLYWHEEL_SERVICE_KEYS", f"alice:predict:{SECRET}")
    settings = ServiceSettings()
    with caplog.at_level(logging.DEBUG):
        client(read_keys(settings.keys.get_secret_value())).get("/classify", headers=bearer(SECRET))
    assert SECRET not in f"{settings!r}{settings}{KEYS!r}{caplog.text}"


def test_a_key_that_asks_too_often_waits_and_the_others_do_not(tmp_path):
    now = [100.0]
    limit = RateLimit(tmp_path / "rate", ["alice", "bob", "root"], rate=2, burst=3, clock=lambda: now[0])
    asked = client(limit=limit)
    assert [asked.get("/classify", headers=bearer(SECRET)).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = asked.get("/classify", headers=bearer(SECRET))
    assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("too_many_requests", "1")
    assert asked.get("/classify", headers=bearer(OTHER)).status_code == 200
    now[0] += 0.5
    assert [asked.get("/classify", headers=bearer(SECRET)).status_code for _ in range(2)] == [200, 429]


def _ask(file: Path, count: int, taken) -> None:
    limit = RateLimit(file, ["alice"], rate=1e-9, burst=100)
    taken.put(sum(limit.wait_for("alice") == 0 for _ in range(count)))


def test_the_limit_is_the_services_whatever_the_number_of_workers(tmp_path):
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    workers = [context.Process(target=_ask, args=(tmp_path / "rate", 80, taken)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert sum(taken.get(timeout=60) for _ in workers) == 100
    for worker in workers:
        worker.join()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("rate", float("inf"), "FLYWHEEL_SERVICE_RATE: Input should be a finite number."),
        ("burst", SECRET, "FLYWHEEL_SERVICE_BURST: Input should be a valid integer"),
        ("longest_queue", 2, "FLYWHEEL_SERVICE_MOST_IMAGES=64: at most FLYWHEEL_SERVICE_LONGEST_QUEUE=2 expected"),
    ],
)
def test_a_bad_setting_is_told_without_its_value(setting, value, message):
    with pytest.raises(ValueError) as refused:
        ServiceSettings(**{setting: value})
    assert said(refused.value).startswith(message)
    assert SECRET not in said(refused.value)
