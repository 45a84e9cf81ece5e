"""The chain of `make run` as plain functions, without Prefect: `without_prefect.py EPOCHS yes|no` (validate or not)."""

import sys

from clock import Clock

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.ledger import open_ledger
from flywheel.lineage.checks import artifacts_of
from flywheel.model.initial_weights import pack_for
from flywheel.records import ImageIndex, PreparedData, Source, ValidationResult
from flywheel.settings import DataParameters, Recipe, Settings, TrainingParameters, keep_tools_at_home
from tasks.evaluation import evaluate_model
from tasks.gate import judge_model
from tasks.packaging import package_model
from tasks.parity import measure_parity
from tasks.probes import probes_of
from tasks.training import train
from tasks.validation import check_index, check_version, quarantine, require
from tasks.verdict_page import verdict_page
from tasks.visualize import make_report

clock = Clock()


def main(epochs: int, validated: bool) -> None:
    keep_tools_at_home(Settings())
    clock.lap("start")
    parameters = TrainingParameters(data=DataParameters(source="digits"), recipe=Recipe(epochs=epochs))
    data = prepare(pack_for(parameters.data, None), validated)
    finish(data, parameters)
    clock.lap("end")
    clock.leave()


def prepare(parameters: DataParameters, validated: bool) -> PreparedData:
    settings = Settings()
    source = fetch_source(parameters.source, settings)
    clock.lap("fetch source")
    index = build_index(source, settings.paths)
    clock.lap("index")
    return (with_suites if validated else without_suites)(source, index, parameters)


def with_suites(source: Source, index: ImageIndex, parameters: DataParameters) -> PreparedData:
    paths = Settings().paths
    check = check_index(index, parameters, paths)
    rows = quarantine(index, check, paths)
    require(check)
    clock.lap("validate index")
    version = build_version(index, rows, parameters, paths)
    clock.lap("make dataset")
    version_check = check_version(version, parameters, paths)
    require(version_check)
    clock.lap("validate dataset")
    return PreparedData(source, index, version, (check, version_check))


def without_suites(source: Source, index: ImageIndex, parameters: DataParameters) -> PreparedData:
    version = build_version(index, (), parameters, Settings().paths)
    clock.lap("make dataset")
    nothing = (ValidationResult("images", index.id, ()), ValidationResult("splits", version.id, ()))
    return PreparedData(source, index, version, nothing)


def finish(data: PreparedData, parameters: TrainingParameters) -> None:
    settings = Settings()
    ledger, paths = open_ledger(settings), settings.paths
    champion = ledger.champion(data.dataset.task_id)
    model = train(data.dataset, parameters.recipe, parameters.device, paths, lambda _: None)
    clock.lap("train")
    evaluation = evaluate_model(model, data.dataset, paths)
    clock.lap("evaluate")
    bento = package_model(model, evaluation, paths)
    clock.lap("package")
    parity = measure_parity(bento, model, probes_of(data.dataset, paths))
    clock.lap("parity")
    gate = judge_model(evaluation, data.dataset, champion, parameters.gate, ledger, paths, parity=parity)
    verdict_page(gate, ledger, paths)
    clock.lap("judge")
    make_report(model, data, evaluation, gate, bento.tag, paths, champion=champion, parameters=parameters)
    clock.lap("report")
    why, artifacts = f"It passed its gate {gate.id}: {gate.reason}", artifacts_of(model, paths)
    ledger.promote(gate.task_id, model.id, bento.tag, gate.id, why, artifacts=artifacts)
    clock.lap("release")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "yes")
    modules = {"prefect"} & set(sys.modules)
    assert not modules, f"{modules}: a chain without Prefect expected"
