"""A small client of the service: one image asked, the answer or the service's own words."""

import os
from dataclasses import dataclass
from pathlib import Path

import httpx

TIMEOUT_SECONDS = 60.0


class ServiceError(RuntimeError):
    """The service did not answer, or refused; the message says why and what to do."""


@dataclass(frozen=True)
class ServedAnswer:
    """What a service said about one image."""

    prediction_id: str
    model_id: str
    top: tuple[tuple[str, float], ...]  # (class, probability), best first


def classify(image: Path, url: str, top: int) -> ServedAnswer:
    """The answer of the service at `url`; FLYWHEEL_API_KEY is its key, where it asks for one. Raises ServiceError."""
    key = os.environ.get("FLYWHEEL_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with image.open("rb") as file:
            response = httpx.post(
                f"{url.rstrip('/')}/classify",
                files={"image": (image.name, file)},
                params={"top_k": top},
                headers=headers,
                timeout=TIMEOUT_SECONDS,
            )
        body = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(f"{url}: no answer ({error}). 'make serve' starts the champion's service.") from error
    except OSError as error:
        raise ServiceError(f"{image}: can't be read ({error.strerror}).") from error
    except ValueError as error:
        raise ServiceError(f"{url}: a classifier's answer expected, HTTP {response.status_code} found.") from error
    if response.is_success and {"prediction_id", "model_id", "top_k"} <= set(body):
        scores = tuple((each["label"], each["confidence"]) for each in body["top_k"])
        return ServedAnswer(body["prediction_id"], body["model_id"], scores)
    told = body.get("error", {}) if isinstance(body, dict) else {}
    raise ServiceError(f"{url}: HTTP {response.status_code}. {told.get('message', '')} {told.get('hint', '')}".strip())
