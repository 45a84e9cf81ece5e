"""Live traffic for a rehearsal: real images that no model learned from, sent to a real service, in a world that moves.

The images are those that a subset left over. What the world does to them is a scenario; their true labels are known
here, so that accuracy can be told, and are sent for a part of them, as people would.
"""

import io
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import httpx
import numpy as np
from numpy.typing import NDArray

from flywheel.data.versions import open_arrays
from flywheel.evaluation.corruptions import corrupt
from flywheel.ledger.entries import utc_now
from flywheel.monitoring.breakages import broken
from flywheel.records import DatasetVersion, Side

SENDERS = 4
TIMEOUT_SECONDS = 60.0
FEWEST_LEFT_OVER = 500  # images of the stream
SWAPPED = "red and blue are swapped"
MOST_ASKED = 500  # labels that are read from the queue at once
BLOCK = 64  # images that are changed together

Images = NDArray[np.uint8]


class StreamError(RuntimeError):
    """There are no images that no model learned from."""


@dataclass(frozen=True)
class Scenario:
    """What happens to the world, and how the rehearsal must end."""

    name: str
    told: str
    change: Callable[[Images, Sequence[str]], Images] = lambda images, _: images
    common: float = 0.0  # the share of traffic that the first three classes take over
    attack: bool = False  # the labels that come are an attacker's
    heals: bool | None = False  # whether it must end with a promotion; None: it may end either way


def _noise_and_blur(images: Images, ids: Sequence[str]) -> Images:
    """Every other image has noise, the others are blurred."""
    changed = images.copy()
    for first, corruption in enumerate(("gaussian noise", "blur")):
        some = slice(first, None, 2)
        if len(images[some]):
            changed[some] = corrupt(images[some], list(ids)[some], corruption, 4)
    return changed


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("mix", "half of the images are noisy, half are blurred", _noise_and_blur, heals=True),
        Scenario(
            "encoder",
            "a new encoder: JPEG of quality 10",
            lambda images, ids: corrupt(images, ids, "jpeg", 3),
            heals=None,
        ),
        Scenario("class", "the first three classes make up four of five images", common=0.8),
        Scenario(
            "camera",
            "a broken camera: red and blue are swapped",
            lambda images, _: broken(images, "red and blue are swapped"),
        ),
        Scenario("bright", "brighter light", lambda images, ids: corrupt(images, ids, "brightness", 1)),
        Scenario("attacker", "noise and blur, and an attacker's labels", _noise_and_blur, attack=True),
    )
}


@dataclass(frozen=True)
class Sent:
    """One request and its answer."""

    at: datetime
    moved: bool  # whether the world had
    label: str  # the true one
    prediction_id: str  # empty: the request failed
    answered: str
    model_id: str
    status: int


class Stream:
    """Sends at a steady rate from a thread until it is closed; `world` may be changed meanwhile."""

    def __init__(self, version: DatasetVersion, url: str, rate: float, seed: int) -> None:
        arrays = open_arrays(version)
        rows = arrays.side(Side.UNUSED)
        if len(rows) < FEWEST_LEFT_OVER:
            raise StreamError(
                f"{version.id}: at least {FEWEST_LEFT_OVER} images that no training used expected, {len(rows)} found. "
                "Train the champion on a SUBSET of its source: the images that it leaves over are the traffic."
            )
        self._arrays, self._classes = arrays, version.classes
        self._random = np.random.default_rng(seed)
        self._rows = self._random.permutation(rows)
        self._next = 0
        self.url, self._rate = url, rate
        self.world: Scenario | None = None
        self.sent: list[Sent] = []
        self._client = httpx.Client(trust_env=False, timeout=TIMEOUT_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    @property
    def failed(self) -> list[Sent]:
        return [each for each in self.sent if each.status != httpx.codes.OK]

    def wait_for(self, more: int, seconds: float) -> None:
        """Until so many more were answered. Raises TimeoutError."""
        wanted, deadline = len(self.sent) + more, time.monotonic() + seconds
        while len(self.sent) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{more} answers within {seconds:.0f} s expected, {len(self.sent)} in all came.")
            time.sleep(0.1)

    def label(self, answers: Sequence[Sent], source: str, attack: bool = False) -> int:
        """Send the true labels of these answers, or an attacker's; how many were taken."""

        def send(each: Sent) -> int:
            body = {"prediction_id": each.prediction_id, "label": self._classes[0] if attack else each.label}
            return self._client.post(f"{self.url}/feedback", json={**body, "source": source}).status_code

        with ThreadPoolExecutor(SENDERS) as pool:
            return sum(status == httpx.codes.OK for status in pool.map(send, answers))

    def asked(self) -> list[Sent]:
        """Answers of this stream whose label the service asks for."""
        found = self._client.get(f"{self.url}/queue", params={"limit": MOST_ASKED}).raise_for_status().json()["images"]
        wanted = {each["prediction_id"] for each in found}
        return [each for each in list(self.sent) if each.prediction_id in wanted]

    def _run(self) -> None:
        due = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as pool:
            while not self._stop.is_set():
                scenario = self.world
                for label, data in self._block(scenario):
                    if self._stop.is_set():
                        return
                    due = max(due + 1 / self._rate, time.monotonic() - 1.0)
                    self._stop.wait(max(0.0, due - time.monotonic()))
                    pool.submit(self._send, label, data, scenario is not None)

    def _block(self, scenario: Scenario | None) -> list[tuple[str, bytes]]:
        """A few images; the next ones come under the scenario of then."""
        rows = self._draw(scenario.common if scenario else 0.0)
        images = np.asarray(self._arrays.images[np.sort(rows)])
        rows = np.sort(rows)
        if scenario is not None:
            images = scenario.change(images, [str(name) for name in self._arrays.ids[rows]])
        labels = [self._classes[self._arrays.labels[row]] for row in rows]
        order = self._random.permutation(len(rows))
        return [(labels[place], _png(images[place])) for place in order][: max(1, int(self._rate))]

    def _draw(self, common: float) -> NDArray[np.int64]:
        if common:
            few = np.isin(self._arrays.labels[self._rows], np.arange(3))
            count = round(common * BLOCK)
            chosen = [self._random.choice(self._rows[few], count, replace=False)]
            chosen.append(self._random.choice(self._rows[~few], BLOCK - count, replace=False))
            return np.concatenate(chosen)
        if self._next + BLOCK > len(self._rows):
            self._next = 0
        self._next += BLOCK
        return self._rows[self._next - BLOCK : self._next]

    def _send(self, label: str, data: bytes, moved: bool) -> None:
        try:
            answer = self._client.post(f"{self.url}/classify", content=data, headers={"content-type": "image/png"})
            found = answer.json() if answer.status_code == httpx.codes.OK else {}
            status = answer.status_code
        except (httpx.HTTPError, ValueError):
            found, status = {}, 0
        told = (found.get("prediction_id", ""), found.get("label", ""), found.get("model_id", ""))
        self.sent.append(Sent(utc_now(), moved, label, *told, status))


def _png(image: Images) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
