"""Makes `references/data-dictionary.md`: every field of what flywheel leaves on disk, in the ledger and in answers.

Names and types come from the code: schemas, dataclasses, tables, answers. So do meanings, where the code states them (a
field's comment or description); the others stand in MEANINGS, and a field without a meaning is an error.

Run 'python -m references.dictionary' to make it again.
"""

import ast
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Table

PAGE = Path(__file__).with_name("data-dictionary.md")
HEAD = ("Field", "Type", "Meaning")
Row = tuple[str, str, str]

# Of documents that the code writes field by field: (name, type).
INDEX_MANIFEST = {
    "format": "integer",
    "id": "text",
    "source": "text",
    "folder": "text",
    "fingerprint": "text",
    "images": "integer",
    "classes": "list of text",
}
DATASET_MANIFEST = {
    "id": "text",
    "source": "text",
    "index_id": "text",
    "classes": "list of text",
    "counts": "object",
    "size": "integer",
    "filter": "text",
    "evaluation_set_id": "text",
    "task_id": "text",
    "quarantined": "integer",
    "left_out": "integer",
    "files": "object",
}
ROBUSTNESS_RECORD = {"evaluation_id": "text", "settings": "object", "robustness": "Robustness", "sha256": "text"}
MODEL_MANIFEST = {"model": "TrainedModel", "files": "object", "training": "object"}

MEANINGS = {
    "index": {
        "path": "relative to the source's folder, with forward slashes",
        "split": "train, val, test, or empty where the source has no splits",
        "label": "the class folder's name, in Unicode's composed form",
        "image_id": "64 hex digits: SHA-256 of size and RGB pixels; null where undecodable",
        "width": "pixels, upright; 0 where undecodable",
        "height": "pixels, upright; 0 where undecodable",
        "mode": "Pillow's name for how the file stores pixels: RGB, L, P, CMYK …",
        "bytes": "of the file",
        "decode_ok": "whether the file could be read and decoded",
        "error": "why not, in a sentence; else empty",
        "brightness": "mean luma, 0 is black, 1 is white",
        "contrast": "standard deviation of luma",
        "saturation": "mean of HSV's",
        "sharpness": "standard deviation of luma's Laplacian",
        "red": "mean, 0 to 1",
        "green": "mean, 0 to 1",
        "blue": "mean, 0 to 1",
        "descriptor": "int16[63], little-endian, for near duplicates; empty where undecodable",
        "side": "train, validation, reference, frozen or unused",
    },
    "index manifest": {
        "format": "raised when columns change their meaning",
        "id": "idx-…: the hash of its rows",
        "source": "the source's name",
        "folder": "the source's folder, its bytes in hex",
        "fingerprint": "of the classes, and of path, size and time of every file",
        "images": "rows, the undecodable ones included",
        "classes": "every class folder",
    },
    "dataset manifest": {
        "id": "ds-…: the hash of images, labels, sides, classes, size and filter",
        "source": "the source's name",
        "index_id": "the index that it was made of",
        "classes": "sorted; a label's number is its place here",
        "counts": "images by side",
        "size": "pixels a side of the packed images",
        "filter": "the resampling filter that packed them",
        "evaluation_set_id": "evalset-…: of the frozen side's images and labels",
        "task_id": "task-…: the hash of the class list",
        "quarantined": "images that an expectation took out",
        "left_out": "images that are copies or under two labels; listed in left_out.csv",
        "files": "bytes and SHA-256 of images.npy, labels.npy, rows.parquet and left_out.csv",
    },
    "left out": {
        "path": "the file, in the source",
        "image_id": "of its pixels",
        "label": "its class",
        "side": "the side that it would have stood on",
        "of": "the image id that it is a copy of",
        "why": "in words",
    },
    "quarantine": {
        "path": "the file, in the source",
        "label": "its class",
        "expectation": "Great Expectations' name of what it breaks",
        "reason": "in words; for an undecodable file the decoder's",
    },
    "model manifest": {
        "model": "the record below",
        "files": "SHA-256 of every file in the folder",
        "training": "recipe, hash of the code that decides the weights, and images by side",
    },
    "TrainedModel": {
        "dataset_id": "what it was trained on",
        "task_id": "the hash of its class list",
        "architecture": "a timm model's name, or flywheel's own",
        "classes": "an output's number is its place here",
        "preprocessing": "size, filter, mean and standard deviation: from pixels to the network's input",
        "parameters": "how many weights are trained",
        "seed": "decided initial weights, order and augmentation",
        "threads": "CPU threads of the training process",
        "device": "cpu, cuda or mps",
        "epochs": "that were trained",
        "best_epoch": "whose weights these are; 1 is the first",
        "top1_validation": "of the best epoch, on the validation side; null where it is empty",
        "weights_sha256": "of weights.safetensors",
        "train_seconds": "wall seconds of all epochs",
        "images_per_second": "trained",
        "folder": "empty in the manifest: a folder may be moved",
    },
    "Evaluation": {
        "folder": "its own, under reports",
        "confusion": "images by true and by predicted class",
        "model_id": "who was measured",
        "dataset_id": "on which dataset version",
        "evaluation_set_id": "and which frozen set",
        "images": "how many",
        "top1": "share of right answers, with its 95 % interval",
        "classes": "by class: label, images, recall with interval, precision",
        "images_per_second": "answered",
    },
    "Parity": {
        "bento_tag": "the Bento that was served, as name:version",
        "model_id": "whose logits were expected",
        "probes": "a result a file: name, difference, problem",
    },
    "ProbeResult": {"name": "how the image was encoded"},
    "evaluation table": {
        "image_id": "of its pixels; rows are sorted by it",
        "label": "the true class's number",
        "predicted": "the likeliest class's number",
        "logits": "the network's outputs, a number a class",
    },
    "robustness record": {
        "evaluation_id": "whose folder it lies in",
        "settings": "format, formulas, most images, and strengths by corruption: other ones are measured again",
        "robustness": "the record below",
        "sha256": "of the three fields above, as canonical JSON",
    },
    "Robustness": {
        "model_id": "who was measured",
        "images": "how many were corrupted, each in every way",
        "conditions": "by corruption and severity: images answered right, and a bit an image, in the order of ids",
        "seconds": "that it took",
    },
    "decisions": {
        "position": "in the order of recording",
        "id": "dec-…: the hash of kind, inputs and policy",
        "kind": "gate, promotion, force, rollback, drift or retrain",
        "task_id": "the task that it decides on",
        "inputs": "identities of what it rests on",
        "policy": "the rules' settings and version",
        "evidence": "what was measured",
        "verdict": "pass, fail or not enough evidence",
        "reason": "in words",
        "created_at": "UTC",
        "code_version": "the hash of the code that decided",
    },
    "evaluation_set_uses": {
        "position": "in the order of recording",
        "evaluation_set_id": "the set that was asked",
        "model_id": "the challenger",
        "champion_id": "whom it was compared with; empty where the task had none",
        "decision_id": "the first decision that asked it",
        "at": "UTC",
    },
    "champions": {
        "position": "in the order of promotions, over all tasks",
        "task_id": "whose champion",
        "model_id": "the champion",
        "decision_id": "the promotion, force or rollback that made it champion",
        "bento_tag": "the Bento that carries it, as name:version",
        "since": "UTC",
    },
    "chain": {
        "position": "0, 1, 2 … without a gap; 0 stands for no row: its hash is the ledger's id",
        "row_table": "the table of the row that the link stands for",
        "row_position": "the row's position there",
        "hash": "SHA-256 of the hash before it and of the row, all its columns",
    },
    "servings": {
        "id": "drawn by the worker",
        "task_id": "whose classes it tells apart",
        "model_id": "the model that answers",
        "bento_tag": "the Bento that carries it, as name:version",
        "release_id": "the decision that made it champion, or its trial; empty for the Bento's own model",
        "role": "champion, canary or shadow",
        "worker": "host and process",
        "since": "UTC",
        "problem": "why it may not answer; empty where it does",
    },
    "predictions": {
        "position": "in the order of commits: who has read up to one has missed none before it",
        "id": "UUIDv7, as the client was told",
        "at": "microseconds since 1970, UTC",
        "serving_id": "who answered",
        "predicted": "the likeliest class, as its place in the model's class list",
        "probabilities": "float32[C], the softmax",
        "embedding": "float16[K], by the model's own projection",
        "statistics": "float32[7]: brightness, contrast, saturation, sharpness, red, green, blue",
        "image_id": "64 hex digits: SHA-256 of size and RGB pixels",
        "format": "JPEG, PNG …; pixels for an array",
        "width": "pixels",
        "height": "pixels",
        "bytes": "of the file that was sent",
        "client": "the id of the API key; empty where none was asked for",
        "kept": "whether the image's bytes were kept",
    },
    "labels": {
        "position": "in the order of commits; a prediction's last row counts",
        "prediction_id": "what was labelled",
        "label": "the class that is true",
        "source": "a person or a system",
        "client": "the id of the API key; empty where none was asked for",
        "at": "UTC",
    },
    "label_requests": {
        "position": "in the order of asking",
        "prediction_id": "whose label is asked for",
        "reason": "why",
        "at": "UTC",
    },
    "trials": {
        "position": "in the order of beginning; a task's last row says what is on trial",
        "task_id": "whose task",
        "model_id": "the model on trial",
        "bento_tag": "the Bento that carries it",
        "role": "canary, shadow, or none: the trial has ended",
        "share": "of the requests that it answers, or of the images that it looks at",
        "reason": "why",
        "who": "whose decision",
        "at": "UTC",
        "lease": "the trial goes on while this lease is renewed; empty: until somebody ends it",
    },
    "claims": {
        "name": "what was claimed: a drift decision, a week of a task",
        "holder": "the flow run that acts on it",
        "at": "UTC",
    },
    "leases": {
        "name": "what is held: a task's retraining, a trial",
        "holder": "the flow run that holds it",
        "until": "UTC; free from then on, unless it was renewed",
    },
    "tallies": {
        "serving_id": "which worker's serving of which model: the row of `servings`",
        "answers": "since it began to serve",
        "failures": "requests that it could not answer; where it was on trial, the champion did",
        "seconds": "answers by how long their batch took, in buckets from half a millisecond to 3 s",
        "at": "UTC, when the worker noted it",
    },
    "Head": {"hash": "of that link"},
    "Score": {"label": "a class"},
    "BatchClassification": {
        "results": "the answers in the order sent; an unreadable image's is an error",
        "latency_ms": "of the whole batch",
    },
    "ServedModel": {
        "model_id": "the model that answers",
        "architecture": "a timm model's name, or flywheel's own",
        "classes": "an output's number is its place here",
        "parameters": "how many weights it has",
        "dataset_id": "what it was trained on",
        "task_id": "the hash of its class list",
        "trial": "the model beside it; nothing where there is none",
        "log": "how the prediction log stands; nothing where nothing is logged",
    },
    "Top1": {"value": "the share of right answers", "low": "of the interval", "high": "of the interval"},
    "Measured": {"top1": "the record below"},
    "Gate": {"decision_id": "in the ledger", "verdict": "pass, fail or not enough evidence", "reason": "in words"},
    "OnTrial": {"model_id": "which model"},
    "FeedbackTaken": {"prediction_id": "what was labelled", "label": "what it is"},
    "AskedImage": {"prediction_id": "whose label is asked for", "reason": "why"},
    "LabelQueue": {"images": "the records below"},
    "ErrorAnswer": {"error": "the record below"},
}


def dictionary() -> str:
    """The whole page."""
    sections = [*_data(), *_models(), *_ledger(), *_answers()]
    intro = (
        "# Data dictionary\n\nEvery field of what flywheel leaves on disk, in the ledger, and in the service's "
        "answers. Names and types are read\nfrom the code. Run 'python -m references.dictionary' to make it again.\n"
    )
    return intro + "".join(f"\n## {title}\n\n{text}\n\n{_table(rows)}\n" for title, text, rows in sections)


def _data() -> Iterable[tuple[str, str, list[Row]]]:
    from flywheel.data.index import SCHEMA
    from flywheel.data.splits import LEFT_OUT
    from flywheel.data.versions import ROW_SCHEMA
    from tasks.validation import QUARANTINE_COLUMNS

    yield "Index", "`data/interim/<idx-…>/index.parquet`, one row an image.", _columns(SCHEMA)
    yield "Index manifest", "`index.json` beside it.", _named("index manifest", INDEX_MANIFEST)
    texts = dict.fromkeys(QUARANTINE_COLUMNS, "text")
    yield "Quarantine", "`data/interim/quarantine/<idx-…>.csv`.", _named("quarantine", texts)
    yield "Dataset manifest", "`data/processed/<ds-…>/manifest.json`.", _named("dataset manifest", DATASET_MANIFEST)
    told = "`rows.parquet`, one row an image, sorted by image id; images.npy and labels.npy have the same order."
    yield "Dataset rows", told, _columns(ROW_SCHEMA)
    yield "Left out", "`left_out.csv`.", _named("left out", dict.fromkeys(LEFT_OUT, "text"))


def _models() -> Iterable[tuple[str, str, list[Row]]]:
    from flywheel import records
    from flywheel.evaluation import robustness

    yield "Model manifest", "`models/<model-…>/model.json`.", _named("model manifest", MODEL_MANIFEST)
    yield "Trained model", "The part `model` of it.", _record(records, "TrainedModel")
    yield "Evaluation", "`reports/<eval-…>/evaluation.json`.", _record(records, "Evaluation")
    columns = {"image_id": "string", "label": "int64", "predicted": "int64", "logits": "list of float"}
    yield "Parity", "`parity.json` in a Bento's folder.", _record(records, "Parity")
    yield "Probe", "Each entry of its `probes`.", _record(records, "ProbeResult")
    yield "Answers by image", "`logits.parquet` beside it.", _named("evaluation table", columns)
    told = "`robustness.json` beside it, where it was measured."
    yield "Robustness record", told, _named("robustness record", ROBUSTNESS_RECORD)
    yield "Robustness", "The part `robustness` of it.", _record(robustness, "Robustness")


def _ledger() -> Iterable[tuple[str, str, list[Row]]]:
    from flywheel.ledger import heads
    from flywheel.ledger.lease_tables import HELD
    from flywheel.ledger.prediction_tables import LOGGED
    from flywheel.ledger.tables import CHAINED, chain

    for table in sorted((*CHAINED, chain), key=lambda each: each.name):
        yield f"Ledger: {table.name}", f"The table `{table.name}`; rows are only added.", _ledger_columns(table)
    for table in LOGGED:
        yield f"Prediction log: {table.name}", f"The table `{table.name}`.", _ledger_columns(table)
    for table in HELD:
        yield f"Ledger: {table.name}", f"The table `{table.name}`, outside the chain.", _ledger_columns(table)
    told = "`.flywheel/ledger-head.json`, by ledger id: the chain's last link, outside the database."
    yield "Ledger: head", told, _record(heads, "Head")


def _answers() -> Iterable[tuple[str, str, list[Row]]]:
    from bentos.classifier import answers, errors

    told = {
        answers.Classification: "`POST /classify`, and each result of a batch.",
        answers.Score: "Each entry of `top_k`.",
        answers.BatchClassification: "`POST /classify_batch`.",
        answers.ServedModel: "`GET /model`.",
        errors.ErrorAnswer: "Every refusal.",
        errors.ErrorDetail: "The part `error` of it.",
    }
    for model, text in told.items():
        yield f"Answer: {model.__name__}", text, _fields(model)


def _named(section: str, types: Mapping[str, str]) -> list[Row]:
    return [(name, kind, _meaning(section, name)) for name, kind in types.items()]


def _columns(schema: "pa.Schema") -> list[Row]:
    return [(field.name, str(field.type), _meaning("index", field.name)) for field in schema]


def _ledger_columns(table: "Table") -> list[Row]:
    return [(column.name, str(column.type).lower(), _meaning(table.name, column.name)) for column in table.columns]


def _fields(model: type[BaseModel]) -> list[Row]:
    properties = model.model_json_schema(ref_template="{model}", mode="serialization")["properties"]
    return [
        (name, _json_type(schema), schema.get("description") or _meaning(model.__name__, name))
        for name, schema in properties.items()
    ]


def _json_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"])
    if "anyOf" in schema:
        return " or ".join(map(_json_type, schema["anyOf"]))
    if schema["type"] == "array":
        return f"list of {_json_type(schema['items'])}"
    return str(schema["type"])


def _record(module: ModuleType, name: str) -> list[Row]:
    """A dataclass's fields; where MEANINGS is silent, the comment behind a field is its meaning."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    (record,) = (node for node in _classes(source) if node.name == name)
    found = []
    for node in record.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment = lines[node.lineno - 1].partition("# ")[2]
            field = node.target.id
            meaning = comment if comment and field not in MEANINGS[name] else _meaning(name, field)
            found.append((field, ast.unparse(node.annotation), meaning))
    return found


@cache
def _classes(source: str) -> list[ast.ClassDef]:
    return [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]


def _meaning(section: str, name: str) -> str:
    try:
        return MEANINGS[section][name]
    except KeyError:
        raise KeyError(
            f"{section}: the field {name!r} has no meaning. Add it to MEANINGS in {Path(__file__).name}, "
            "and run 'python -m references.dictionary'."
        ) from None


def _table(rows: Iterable[Row]) -> str:
    lines = [HEAD, ("---",) * 3, *((f"`{name}`", kind, meaning) for name, kind, meaning in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(dictionary(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
