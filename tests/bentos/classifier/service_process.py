"""A Bento of the tests' model, really served: its address, its processes and its log."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from flywheel.model.folder import read_model
from flywheel.paths import Paths
from tasks.packaging import package_model
from tasks.serving import served

READY_SECONDS = 120.0


@dataclass(frozen=True)
class Service:
    address: str
    processes: tuple[psutil.Process, ...]  # that stood when it was ready
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def workers(self) -> list[psutil.Process]:
        """That answer now; one that was killed is none, though its parent may not have looked yet."""
        found = []
        for each in self.processes[0].children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one of these
                if "worker.service" in " ".join(each.cmdline()):
                    found.append(each)
        return found


@contextlib.contextmanager
def served_service(model: Path, home: Path, environment: Mapping[str, str]) -> Iterator[Service]:
    before = {each.pid for each in psutil.Process().children()}
    paths = Paths(home)
    bento = package_model(read_model(model), None, paths)
    with served(bento.tag, paths.bentoml, READY_SECONDS, {"OMP_NUM_THREADS": "1", **environment}) as address:
        (first,) = [each for each in psutil.Process().children() if each.pid not in before]
        log = Path(first.cwd()).with_name("log")
        yield Service(address, (first, *first.children(recursive=True)), log)
