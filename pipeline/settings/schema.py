"""The schema of a run's settings: every field with its meaning, its unit and what it may be."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings.hooks import HookSettings
from pipeline.settings.liveness import least_patience_s, ping_interval_s
from pipeline.settings.search import SearchSettings, budget_ladder
from pipeline.settings.section import Line, Positive, Seed, SettingsSection
from pipeline.settings.space import narrowed
from tandem_trial.problem import Metric

# Options of sbatch that the program itself counts on, and what to use instead.
NOT_EXTRA = {
    "time": "use slurm.walltime_min: workers hand back before it",
    "array": "use workers.count and slurm.array_parallelism",
    "signal": "use workers.handback_margin_s",
    "job-name": "the run's tasks are found by their name",
    "output": "logs are in the run folder",
    "error": "logs are in the run folder",
}
IMAGE_CLASSIFICATION = "image_classification"
DATASETS = ("digits", "fashion_mnist", "cifar10", "cifar100", "svhn")


class DataSettings(SettingsSection):
    """What is trained on."""

    dataset: Literal["digits", "fashion_mnist", "cifar10", "cifar100", "svhn", "folder", "npz"] = "cifar10"
    """Name of the data set, or what holds your own images: a folder with a sub-folder per class, or an .npz file."""
    source: Path | None = None
    """Of your own images: where they are; relative to where the run is submitted."""
    image_size: Annotated[int, Field(ge=8, le=512)] = 32
    """Of images in a folder: height and width in pixels that they are brought to."""
    fit: Literal["crop", "squeeze"] = "crop"
    """How images in a folder become square: by their middle, or squeezed."""
    flips: bool = True
    """Of your own images: mirrored ones show the same thing, so training mirrors at random."""
    root: Path = Path("data")
    """Folder of the prepared data, on storage that the nodes share; relative to where the run was submitted."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training set held out for validation."""
    split_seed: Seed = 0
    """Seed of the split; the same for every run that shall be compared."""

    @field_validator("root", "source")
    @classmethod
    def _tilde_is_home(cls, root: Path | None) -> Path | None:
        if root is None:
            return None
        if len(str(root)) > 1000 or not str(root).isprintable():
            raise ValueError("a path has at most 1000 characters, all of them printable")
        try:
            return root.expanduser()
        except RuntimeError:
            raise ValueError(f"got {str(root)!r}, whose home folder is not known") from None

    @property
    def is_own(self) -> bool:
        """Whether the images are the user's."""
        return self.dataset in ("folder", "npz")

    @property
    def name(self) -> str:
        """Of the data set, for titles and file names."""
        return self.source.stem if self.is_own and self.source is not None else self.dataset


class MetricSettings(SettingsSection):
    """Something that an objective measures, and how a person reads it."""

    name: str
    """A Python name; the column in files and tables."""
    unit: str = ""
    """Unit, as figures write it."""
    direction: Literal["minimise", "maximise"] = "minimise"
    """What is better."""
    scale: Literal["linear", "log"] = "linear"
    """How an axis shows it."""
    percent: bool = False
    """A fraction that is shown times 100, with a percent sign."""
    label: str = ""
    """As figures write it; default: the name with spaces."""

    @model_validator(mode="after")
    def _is_a_metric(self) -> MetricSettings:
        self.to_metric()
        return self

    def to_metric(self) -> Metric:
        """As problems and figures use it; raises ValueError."""
        return Metric(**self.model_dump())


class FrozenProblem(SettingsSection):
    """What a problem was when its run was submitted; written by the program."""

    name: str
    """Of the problem."""
    file: str = ""
    """The copy of its file, relative to the run folder; empty: it is a module, or a command."""
    module: str = ""
    """The module that it is imported from, where it is no file."""
    attribute: str = ""
    """Name of the Problem in it; empty: the only one."""
    path: tuple[str, ...] = ()
    """Folders that it imports its neighbours from."""
    command: tuple[str, ...] = ()
    """The command, with the copies of its files."""
    metric: MetricSettings
    """What is minimised or maximised."""
    metrics: tuple[MetricSettings, ...] = ()
    """What else is recorded."""
    space: Mapping[str, Any]
    """The search space, as ConfigSpace writes it."""
    prepares_data: bool = False
    """Whether it has data to prepare."""


class ProblemSettings(SettingsSection):
    """What is searched. `problem: my_problem.py` is short for `problem: {use: my_problem.py}`."""

    use: str = IMAGE_CLASSIFICATION
    """image_classification (the paper's search), a Python file path/to/file.py[:name], or module[:attribute]; see
    docs/own-problems.md."""
    command: tuple[str, ...] = ()
    """Instead, a program with its arguments: python train.py --lr {learning_rate} --epochs {budget}"""
    space: Mapping[str, Any] = Field(default_factory=dict)
    """Of a command: its search space, by hyperparameter: [lower, upper], a list of choices, a fixed value, or more."""
    forbidden: tuple[Mapping[str, Any], ...] = ()
    """Of a command: combinations that are never drawn."""
    metric: MetricSettings | None = None
    """Of a command: what it reports that is minimised or maximised; a name alone is minimised."""
    metrics: tuple[MetricSettings, ...] = ()
    """Of a command: what else it reports."""
    python: str | None = None
    """Interpreter that runs a problem of one's own; default: Tandem's. Of a command: what `python` means at its
    beginning; default: as PATH has it."""
    stop_grace_s: Positive = 30.0
    """How long an objective that is to stop may take to do so before its process is ended."""
    hang_timeout_min: Positive = 30.0
    """After this long without a row, a step, a question whether to stop (of a command: a row or output) it is ended."""
    frozen: FrozenProblem | None = None
    """Written by the program when the run is submitted."""

    @field_validator("command", mode="before")
    @classmethod
    def _command_is_texts(cls, command: Any) -> Any:
        if isinstance(command, str):
            return shlex.split(command)
        return [str(part) for part in command] if isinstance(command, list) else command

    @field_validator("metric", mode="before")
    @classmethod
    def _name_alone(cls, metric: Any) -> Any:
        return {"name": metric} if isinstance(metric, str) else metric

    @field_validator("metrics", mode="before")
    @classmethod
    def _names_alone(cls, metrics: Any) -> Any:
        return [{"name": m} if isinstance(m, str) else m for m in metrics] if isinstance(metrics, list) else metrics

    @model_validator(mode="after")
    def _command_is_whole(self) -> ProblemSettings:
        if self.command:
            if self.use != IMAGE_CLASSIFICATION:
                raise ValueError("problem: give either use or command, not both")
            if self.metric is None:
                raise ValueError("problem.metric: a command needs the name of the metric that counts, such as loss")
            if not self.space:
                raise ValueError("problem.space: a command needs a search space, such as {learning_rate: [0.001, 1.0]}")
        elif self.space or self.forbidden or self.metric or self.metrics:
            raise ValueError("problem: space, forbidden, metric and metrics belong to a command; a Python problem says "
                             "them itself (the settings' own `space:` narrows it)")  # fmt: skip
        return self

    @property
    def is_built_in(self) -> bool:
        """Whether it is the paper's search."""
        return not self.command and self.use == IMAGE_CLASSIFICATION


class TrainingSettings(SettingsSection):
    """How one evaluation is trained."""

    recipe: Literal["default", "paper-code"] = "default"
    """How regularisers, shortcut and precision are computed: Tandem's way, or that of the paper's published code, which
    differs from the methods that it names (docs/fidelity.md); it trains in float32 and also reports the error on
    augmented validation images. The search minimises the error on clean ones either way."""
    schedule: Literal["ladder", "doubling", "cosine"] = "ladder"
    """Cosine cycles in budget units: ending on the rungs of the ladder; doubling, where an evaluation has a cycle per
    rung, each twice as long as the one before, the last ending with its budget (docs/fidelity.md: how the paper's code
    differs); or one cosine over the evaluation's budget. `doubling` and `cosine` fit search.promotion=restart."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one and slurm.gpus_per_worker is not 0."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA devices that have it, else float32. A CPU always trains in float32: autocast made
    it ten times slower."""
    compile: bool = False
    """Use torch.compile, which takes about a minute: for budgets in seconds, where at least 60 s are left to train.
    A user's runs of one results folder share what is compiled (`.compile-cache-UID`, which may be deleted)."""
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    """CPU threads per worker; 0: the cores it was given, shared among the workers of a machine without Slurm."""
    overhead_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Upper bound of intermediate validations and of checkpoints, as a share of the training time; the final
    validation is exempt. The measured latency, too, takes at most this share, unless it is an objective."""
    test: Literal["largest", "all", "never"] = "largest"
    """On which budgets the test set is measured, once, at the end. The search never sees it."""
    checkpoint_interval_s: Positive = 60.0
    """Seconds between checkpoints, or 20 times what one takes to write, whichever is longer."""
    max_parameters: Annotated[int, Field(ge=1, le=10**15)] = 500_000_000
    """A configuration with more parameters is refused before it is built."""
    memory_gb: Positive | None = None
    """Memory a configuration may be estimated to need; default: what the device (or the job) has."""
    validation_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Images per batch when measuring; fewer where that would need more memory than training does."""
    latency_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Images per batch when a trained network's latency is measured; fewer where that would need more memory than
    training does."""

    @model_validator(mode="after")
    def _papers_code_is_float32(self) -> TrainingSettings:
        if self.recipe == "paper-code" and self.precision == "bfloat16":
            raise ValueError("precision: training.recipe=paper-code trains in float32; leave out precision=bfloat16")
        return self


class WorkerSettings(SettingsSection):
    """How many workers, and when they are given up."""

    count: Annotated[int, Field(ge=0, le=100_000)] = 10
    """Workers the run asks for."""
    where: Literal["auto", "slurm", "local"] = "auto"
    """Where they run: as Slurm tasks, or as processes of this machine; auto: on Slurm where there is a cluster."""
    patience_s: Positive = 60.0
    """A silent worker's evaluation goes back to the queue after this long."""
    idle_timeout_min: Positive = 10.0
    """A worker without work or without a master for this long leaves and frees its GPU."""
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    """Attempts without progress after which a configuration counts as killing its workers."""
    max_broken: Annotated[int, Field(ge=1, le=1000)] = 3
    """Broken evaluations in a row after which the run stops and names the cause."""
    handback_margin_s: Positive = 60.0
    """A worker checkpoints and hands its evaluation back this long before its allocation ends."""

    @model_validator(mode="after")
    def _patience_outlasts_the_pings(self) -> WorkerSettings:
        least_s = least_patience_s(self.count)
        if self.patience_s < least_s:
            raise ValueError(
                f"patience_s: {self.patience_s:g} s would give up healthy workers: each of {self.count} is asked every "
                f"{ping_interval_s(self.count):g} s whether it lives; at least {least_s:g}"
            )
        return self


class NetworkSettings(SettingsSection):
    """How processes reach each other."""

    address: Line | None = None
    """Host name, IP address or interface (ib0) the master listens on; default: the address of the route to the nodes
    (on a machine without Slurm: 127.0.0.1)."""
    ports: tuple[Annotated[int, Field(ge=1024, le=65535)], Annotated[int, Field(ge=1024, le=65535)]] | None = None
    """First and last port that master and workers may listen on; default: any free port."""

    @model_validator(mode="after")
    def _ports_ascend(self) -> NetworkSettings:
        if self.ports is not None and self.ports[1] - self.ports[0] < 3:
            raise ValueError("ports must be [first, last] with at least 4 ports")
        return self


class SlurmSettings(SettingsSection):
    """What is asked of Slurm; unused on a machine without it."""

    partition: Line | None = None
    """Partition of the workers; default: the cluster's default."""
    account: Line | None = None
    """Account to charge."""
    qos: Line | None = None
    """Quality of service."""
    walltime_min: Annotated[int, Field(ge=1, le=10_000_000)] = 240
    """Time limit of a worker's job, in minutes. Budgets may be longer: work is handed on."""
    cpus_per_worker: Annotated[int, Field(ge=1, le=4096)] = 4
    """CPU cores per worker."""
    mem_gb: Positive | None = None
    """Memory per worker, in GB; default: the cluster's default."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=64)] = 1
    """GPUs per worker, on one node: 1, 0 to train on CPUs, or several for a problem of your own that uses them."""
    gpu_request: Literal["gres", "gpus-per-task", "gpus-per-node"] = "gres"
    """How the GPU is asked for: --gres=gpu:N, --gpus-per-task=N or --gpus-per-node=N."""
    gpu_type: Line | None = None
    """Type of GPU as the site names it (a100)."""
    constraint: Line | None = None
    """Node features."""
    exclude: tuple[Line, ...] = ()
    """Nodes never to use."""
    array_parallelism: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Array tasks that may run at once; default: all."""
    setup: tuple[str, ...] = ()
    """Shell lines before a worker starts: modules, conda, environment variables."""
    extra: Mapping[Line, Line | int | bool] = Field(default_factory=dict)
    """Further sbatch options, by long name without dashes; they overrule the program's, and false leaves one out."""
    master: Literal["login", "slurm"] = "login"
    """Where the master runs: as a session of its own on this host, or as a Slurm job."""
    master_partition: Line | None = None
    """Partition of a master that is a job."""
    master_walltime_min: Annotated[int, Field(ge=1, le=10_000_000)] = 1440
    """Time limit of a master that is a job, in minutes; it requeues itself before."""
    master_mem_gb: Positive = 4.0
    """Memory of a master that is a job, in GB."""

    @model_validator(mode="after")
    def _extra_leaves_alone_what_the_program_counts_on(self) -> SlurmSettings:
        for name in sorted(set(self.extra) & set(NOT_EXTRA)):
            raise ValueError(f"extra.{name}: cannot be given here, {NOT_EXTRA[name]}")
        return self


class Settings(SettingsSection):
    """All settings of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)] = "run"
    """First part of the run's id."""
    seed: Seed = 0
    """Seed of the run: every draw and every training derives its own from it."""
    problem: ProblemSettings = ProblemSettings()
    """What is searched."""
    data: DataSettings = DataSettings()
    """What images are trained on."""
    space: Mapping[str, Any] = Field(default_factory=dict)
    """What replaces the problem's own, by hyperparameter: a narrower range [lower, upper], both included, some of the
    choices, or a single value, which fixes it. `tandem settings` shows the paper's as comments."""
    search: SearchSettings = SearchSettings()
    """How configurations are proposed and promoted."""
    training: TrainingSettings = TrainingSettings()
    """How one evaluation is trained."""
    workers: WorkerSettings = WorkerSettings()
    """How many workers, and when they are given up."""
    network: NetworkSettings = NetworkSettings()
    """How processes reach each other."""
    slurm: SlurmSettings = SlurmSettings()
    """What is asked of Slurm; unused on a machine without it."""
    hooks: HookSettings = HookSettings()
    """Commands of yours that the master runs, with the run's status as JSON on their input."""

    @field_validator("problem", mode="before")
    @classmethod
    def _use_alone(cls, problem: Any) -> Any:
        return {"use": problem} if isinstance(problem, str) else problem

    @model_validator(mode="after")
    def _space_is_inside_the_papers(self) -> Settings:
        if self.problem.is_built_in:
            narrowed(self.space)
        return self

    @model_validator(mode="after")
    def _built_in_training_uses_one_gpu(self) -> Settings:
        if self.problem.is_built_in and self.slurm.gpus_per_worker > 1:
            raise ValueError(
                f"slurm.gpus_per_worker: {self.slurm.gpus_per_worker}; the built-in training uses one GPU, and others "
                f"would idle. A problem of your own may use several"
            )
        return self

    @model_validator(mode="after")
    def _ladder_has_both_ends(self) -> Settings:
        budget_ladder(self.search)
        return self
