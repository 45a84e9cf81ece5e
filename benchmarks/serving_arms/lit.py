"""LitServe's own way: a LitAPI with batches. Runs in the environment of `peers/litserve.txt`. `python -m … <port>`"""

import sys
from typing import Any

import litserve

from benchmarks.serving_arms.net import BATCH, Net

GATHER_SECONDS = 0.002


class Lit(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe names it
        self.net = Net()

    def decode_request(self, request: litserve.Request, **_: Any) -> bytes:
        return bytes(request["image"].file.read())

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, x: list[bytes], **_: Any) -> list[dict[str, Any]]:
        return self.net.of_files(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any], **_: Any) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Lit(max_batch_size=BATCH, batch_timeout=GATHER_SECONDS, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=2, generate_client_file=False, log_level="warning"
    )
