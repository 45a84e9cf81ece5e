"""What a user can set: the environment (`Settings`, documented in `.env.example`) and the parameters of each flow."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flywheel.paths import Paths
from flywheel.policies import (
    AlarmPolicy,
    CanaryPolicy,
    DiagnosisPolicy,
    GatePolicy,
    LabelPolicy,
    ReleasePolicy,
    RetrainCanaryPolicy,
    RetrainingGatePolicy,
    RetrainPolicy,
    WindowPolicy,
)

Filter = Literal["bilinear", "bicubic", "lanczos", "box", "nearest"]
DEFAULT_SIZE = 32
DEFAULT_FILTER: Filter = "bicubic"
TASK, DECISION = r"^$|^task-[0-9a-f]{12}$", r"^$|^dec-[0-9a-f]{12}$"
PROJECT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """The environment, or `.env` in the project's folder."""

    model_config = SettingsConfigDict(env_prefix="FLYWHEEL_", env_file=PROJECT / ".env", extra="ignore")

    home: Path = Field(default=PROJECT, description="The folder that holds data/, models/, reports/ and .flywheel/.")
    database_url: str = Field(
        default="", description="The ledger: a SQLite file or a Postgres, by URL. Empty: SQLite in .flywheel/ledger.db."
    )
    cifar10_url: str = Field(
        default="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        description="Where cifar-10-binary.tar.gz is downloaded from; name a mirror here.",
    )
    download_timeout: float = Field(
        default=15.0, gt=0, le=600, description="Seconds until a silent host counts as out of reach."
    )
    wandb_wait: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="Seconds that a finished training waits until W&B has taken the rest of its run, which is kept "
        "and can be sent later; 3 at most where W&B's server does not answer.",
    )

    prefect_port: int = Field(default=4200, ge=1, le=65535, description="Where `make up` serves Prefect's API and UI.")
    reports_port: int = Field(default=4201, ge=1, le=65535, description="Where `make up` serves `reports/`.")

    @property
    def paths(self) -> Paths:
        return Paths(self.home.expanduser().resolve())

    @property
    def ledger_url(self) -> str:
        return self.database_url or f"sqlite:///{self.paths.ledger}"


def keep_tools_at_home(settings: Settings) -> dict[str, str]:
    """Set, where the user has not, what keeps every dependency's files in the project and its telemetry off.

    Call it before Prefect, BentoML, W&B, timm or matplotlib is imported: they read it then. Returns what it set.
    """
    state = settings.paths.state
    wanted = {
        "PREFECT_HOME": state / "prefect",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": state / "prefect-results",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # 20 s, the default, is too short for the embedded server on a busy laptop
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        # a run whose process was killed is told by its silence, also one of `make run`; 180 s, the default, is too long
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "BENTOML_HOME": state / "bentoml",
        "BENTOML_DO_NOT_TRACK": "True",
        "WANDB_DIR": state,
        "WANDB_DATA_DIR": state / "wandb-data",
        "WANDB_CACHE_DIR": state / "wandb-cache",
        "WANDB_CONFIG_DIR": state / "wandb-config",
        "WANDB_ERROR_REPORTING": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HOME": state / "huggingface",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TORCH_HOME": state / "torch",
        "MPLCONFIGDIR": state / "matplotlib",
        "DO_NOT_TRACK": "1",
    }
    missing = {name: str(value) for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    return missing


def make_state_folder(settings: Settings) -> None:
    """Prefect makes its own home, but not the folder above it; without one its server never answers."""
    settings.paths.state.mkdir(parents=True, exist_ok=True)


def _whole_set(value: Any) -> Any:
    """`SUBSET=all` on the command line is no subset."""
    return None if isinstance(value, str) and value.strip().lower() in {"", "all", "none"} else value


def _unset(value: Any) -> Any:
    """`SIZE=` on the command line leaves it to the weights."""
    return None if isinstance(value, str) and value.strip().lower() in {"", "auto", "none"} else value


class Recipe(BaseModel):
    """How a model is trained. All of it is part of the model's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default="airbench_small",
        description="Any timm model by name; `airbench_small` is flywheel's own.",
        min_length=1,
    )
    pretrained: bool = Field(
        default=False, description="Begin with timm's pretrained weights, from the hub or its local cache."
    )
    weights: str = Field(
        default="",
        description="Begin with the weights of this .safetensors file; a head of other classes is replaced.",
        # of the form alone: what a file is, its content tells
        json_schema_extra={"pattern": r"^$|\.safetensors$"},
    )
    stem: Literal["stock", "small"] = Field(
        default="stock", description="small: the first layers keep the resolution of images of 32 to 64 pixels."
    )
    epochs: int = Field(default=5, ge=1, le=1000, description="Passes over the training side.")
    head_epochs: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="The first of the epochs, in which only the head learns; as many as epochs is a linear probe.",
    )
    batch_size: int = Field(default=64, ge=2, le=8192, description="Images a step.")
    optimizer: str = Field(default="muon", description="Any timm optimizer: muon, adamw, sgd, lamb …", min_length=1)
    learning_rate: float = Field(default=0.05, gt=0, le=10, description="The peak, after warm-up.")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="Each layer's learning rate as a share of the next one's; 1 is off."
    )
    weight_decay: float = Field(default=0.05, ge=0, le=1, description="How hard weights are pulled to zero.")
    schedule: Literal["triangle", "cosine", "constant"] = Field(
        default="triangle", description="How the learning rate falls."
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Share of all steps until the peak.")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Share of a label given to the others.")
    mixup: float = Field(default=0.0, ge=0, le=10, description="Mixup's alpha; 0 is off.")
    cutmix: float = Field(default=0.0, ge=0, le=10, description="CutMix's alpha; 0 is off.")
    ema: float = Field(default=0.0, ge=0, lt=1, description="Decay of the averaged weights, a step; 0 is off.")
    flip: bool = Field(default=True, description="Mirror images; off for writing and other handed things.")
    shift: int = Field(
        default=2, ge=0, le=64, description="Pixels that an image is moved at most, over reflected borders."
    )
    cutout: int = Field(default=0, ge=0, le=256, description="Pixels a side of the square that is blanked; 0 is off.")
    both_sides: bool = Field(
        default=False,
        description="Answer with the mean over an image and its mirror image: some tenths of a point for twice the "
        "work a prediction.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Decides initial weights, order and augmentation.")
    threads: int = Field(
        default=1, ge=1, le=256, description="CPU threads of the training process; the bits depend on it."
    )

    @property
    def begins_with_weights(self) -> bool:
        return self.pretrained or bool(self.weights)

    @field_validator("head_epochs")
    @classmethod
    def _within_the_epochs(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("epochs", value):
            raise ValueError(f"at most {info.data['epochs']}, the number of epochs, expected")
        return value


class DataParameters(BaseModel):
    """Which images, and how they are packed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        default="auto",
        min_length=1,
        description="auto, cifar10, digits, or the path of a folder or archive of class folders.",
    )
    subset: Annotated[int | None, BeforeValidator(_whole_set)] = Field(
        default=10_000,
        ge=2,
        le=100_000_000,
        description="Training images, class-balanced; empty or `all` for all of them.",
    )
    subset_seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Which images a subset takes.")
    size: Annotated[int | None, BeforeValidator(_unset)] = Field(
        default=None,
        ge=8,
        le=1024,
        description="Pixels a side that images are packed at; empty: 32, or what pretrained weights ask for.",
    )
    filter: Annotated[Filter | None, BeforeValidator(_unset)] = Field(
        default=None, description="How they are resized; empty: bicubic, or what pretrained weights ask for."
    )
    largest_quarantine_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="More quarantined images than this share stop the run.",
    )
    largest_leak_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="More of a side copied on another than this share stops the run.",
    )

    @property
    def source_name(self) -> str:
        """Of a path the last part, for a list of runs."""
        return Path(self.source).name or self.source

    @property
    def packed_size(self) -> int:
        return self.size or DEFAULT_SIZE

    @property
    def packed_filter(self) -> str:
        return self.filter or DEFAULT_FILTER


class ExtensionParameters(BaseModel):
    """How labelled images and old ones make a retraining's dataset version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judging_share: float = Field(
        default=0.3, gt=0, lt=0.5, description="Of the labelled images, those that judge the new model under drift."
    )
    reference_share: float = Field(
        default=0.3, gt=0, lt=0.5, description="Those that monitoring compares with from then on."
    )
    replay: float = Field(
        default=50.0, ge=0, le=10_000, description="Old training images that are learned from again, for each new one."
    )
    replay_seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Which old images are drawn.")


class TrainingParameters(BaseModel):
    """The parameters of `train-classifier`: what the Prefect form shows and `make run` sets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataParameters = DataParameters()
    recipe: Recipe = Recipe()
    gate: GatePolicy = GatePolicy()
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: CUDA, else MPS, else the CPU."
    )


class ReleaseParameters(BaseModel):
    """The parameters of `release-classifier`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate_decision: str = Field(pattern=r"^dec-[0-9a-f]{12}$", description="The gate's decision on the model.")
    bento_tag: str = Field(min_length=3, description="The Bento that carries the model, as name:version.")
    canary: CanaryPolicy = CanaryPolicy()
    policy: ReleasePolicy = ReleasePolicy()


class RollbackParameters(BaseModel):
    """The parameters of `rollback-classifier`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(
        default="",
        description="Whose champion, as task-…; empty: that of the task that was promoted last.",
        pattern=TASK,
        json_schema_extra={"pattern": TASK},
    )
    who: str = Field(min_length=1, max_length=200, description="Who decides. It stays on record.")
    reason: str = Field(min_length=1, max_length=2000, description="Why. It stays on record.")


class ApprovalParameters(BaseModel):
    """The parameters of `approve-promotion`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate_decision: str = Field(pattern=r"^dec-[0-9a-f]{12}$", description="The gate's decision on the model.")
    bento_tag: str = Field(min_length=3, description="The Bento that carries the model, as name:version.")

    wait_hours: float = Field(
        default=72, gt=0, le=24 * 30, description="Without an answer by then the run fails, and the champion stays."
    )


class MonitorParameters(BaseModel):
    """The parameters of `monitor-classifier`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(
        default="",
        description="Whose champion is watched, as task-…; empty: that of the task that was promoted last.",
        pattern=TASK,
        json_schema_extra={"pattern": TASK},
    )
    window: WindowPolicy = WindowPolicy()
    alarm: AlarmPolicy = AlarmPolicy()
    diagnosis: DiagnosisPolicy = DiagnosisPolicy()


class RetrainParameters(BaseModel):
    """The parameters of `retrain-classifier`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(
        default="",
        description="Whose champion is retrained, as task-…; empty: that of the task that was promoted last.",
        pattern=TASK,
        json_schema_extra={"pattern": TASK},
    )
    decision: str = Field(
        default="",
        description="Monitoring's decision that asks for it, as dec-…; empty: the last one that nothing came of.",
        pattern=DECISION,
        json_schema_extra={"pattern": DECISION},
    )
    cause: Literal["drift", "calendar", "hand"] = Field(
        default="hand",
        description="drift: only where monitoring asks for it. calendar: once a week. hand: now.",
    )
    policy: RetrainPolicy = RetrainPolicy()
    labels: LabelPolicy = LabelPolicy()
    extension: ExtensionParameters = ExtensionParameters()
    gate: RetrainingGatePolicy = RetrainingGatePolicy()
    canary: RetrainCanaryPolicy = RetrainCanaryPolicy()
    release: ReleasePolicy = ReleasePolicy()
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: CUDA, else MPS, else the CPU."
    )

    @property
    def checks(self) -> DataParameters:
        """The limits that validations of its data hold to."""
        return DataParameters()


class RehearsalParameters(BaseModel):
    """The parameters of `rehearse`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Literal["mix", "encoder", "class", "camera", "bright", "attacker"] = Field(
        default="mix",
        description="mix: noise and blur. encoder: coarse JPEG. class: three classes get common. camera: colours are "
        "swapped. bright: harmless light. attacker: noise and blur, with poisoned labels.",
    )
    task: str = Field(
        default="",
        description="Whose champion rehearses, as task-…; empty: that of the task that was promoted last.",
        pattern=TASK,
        json_schema_extra={"pattern": TASK},
    )
    source: str = Field(
        default="auto", min_length=1, description="What a first champion learns from, where there is none yet."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Decides which images are sent, and when.")
    rate: float = Field(default=25.0, gt=0, le=1000, description="Requests a second.")
    window_answers: int = Field(default=400, ge=50, le=100_000, description="Answers between two looks.")
    clean_looks: int = Field(default=2, ge=1, le=100, description="Looks at clean traffic, before the world moves.")
    most_looks: int = Field(default=5, ge=1, le=100, description="Looks at most until a retraining is asked for.")
    labels_sent: int = Field(default=700, ge=1, le=100_000, description="Answers whose label comes in.")
    patience_seconds: float = Field(
        default=90.0, gt=0, le=3600, description="In which a run that the event starts must have begun."
    )
    keep: bool = Field(default=False, description="Leave the new champion where it is; off: the one before comes back.")
