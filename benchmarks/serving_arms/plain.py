"""The bare service: FastAPI under uvicorn with the same micro-batcher, and nothing else. `python -m … <port>`"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from benchmarks.serving_arms.net import BATCH, Net
from bentos.classifier.batcher import MicroBatcher

bound: list[MicroBatcher[bytes, dict[str, Any]]] = []


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    bound.append(MicroBatcher(Net().of_files, BATCH, 4 * BATCH))
    gc.collect()
    gc.freeze()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request) -> JSONResponse:
    (answer,) = await asyncio.gather(*bound[0].submit([await request.body()]))
    return JSONResponse(answer)


if __name__ == "__main__":
    uvicorn.run(f"{__spec__.name}:app", port=int(sys.argv[1]), workers=2, access_log=False, log_level="warning")
