"""The fields of a plan: what may be written, with which bounds and defaults.

Every model is frozen and refuses unknown fields. Docstrings under the fields are the plan
reference. How a text becomes these objects is `fsearch.plan.parse`; how a plan becomes searches is
`fsearch.plan.expand`.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fsearch.plan.variant import BASELINE, Variant, parse_name


class Strict(BaseModel):
    """What all parts of a plan have in common; a field's docstring is its text in the plan reference."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _wait(value: Any) -> Any:
    if value == "forever" or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f"{value!r} is not a time to wait; write seconds, or `forever`")


def _command(value: Any) -> Any:
    """A command as its words; a shell is never asked."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{value!r} cannot be split into words ({str(error).lower()})") from None
    if isinstance(value, list):
        if not value or not all(isinstance(word, str) and "\0" not in word for word in value) or not value[0]:
            raise ValueError(
                "a command is a program and its arguments, each of them text (a number in quotes), such as "
                "`notify: ./tell.sh` or `notify: [sh, -c, 'cat >> told.jsonl']`"
            )
        return tuple(value)
    return value


def _seeds(value: Any) -> Any:
    if value is None or isinstance(value, TopUp):
        return value
    if isinstance(value, dict):
        if value != {"first": 3, "then": 5}:
            raise ValueError(
                f"{value} is no top-up whose error rate is known; write {{first: 3, then: 5}}, or a number"
            )
        return TopUp()
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ValueError(f"{value!r} is not a number of seeds from 1 to 1000; 5 is usual")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(lt=0.5)]
"""A difference of scores, as a fraction: 0.01 is one percentage point."""


class Init(Strict):
    """A model from scratch, with the official initialisation."""

    n_layer: int = Field(ge=1, le=128)
    """Layers."""
    n_embd: int = Field(ge=8, le=16384)
    """Width; a multiple of head_size."""
    head_size: Literal[8, 16, 32, 64, 128] = 64
    """Channels a head."""

    @model_validator(mode="after")
    def _whole_heads(self) -> Init:
        if self.n_embd % self.head_size:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of head_size {self.head_size}")
        return self


class Model(Strict):
    """What is trained: a checkpoint or an initialisation, never both."""

    checkpoint: str | None = None
    """An official RWKV-7 .pth or .safetensors file, relative to the plan, or hf://owner/repo/file."""
    init: Init | None = None
    """From scratch."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Model:
        if (self.checkpoint is None) == (self.init is None):
            raise ValueError("give either `checkpoint: FILE` or `init: {n_layer: ..., n_embd: ...}`")
        return self


class Recipe(Strict):
    """How every attempt of a search trains."""

    lr: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_listed), Field(min_length=1)
    ]
    """Learning rate of the model; a list is a sweep, one search each."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """AdamW's weight decay, on the large matrices only."""
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
        BeforeValidator(_tupled),
    ] = (0.9, 0.98)
    """AdamW's decay rates of the first and second moment."""
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null for none."""
    warmup: Fraction = 0.06
    """Share of the steps in which the learning rate rises from 0."""
    decay: Literal["none", "linear", "cosine"] = "linear"
    """How the learning rate falls."""
    decay_from: Fraction = 0.3
    """Share of the steps after which it falls."""
    final_lr: Fraction = 0.05
    """Where it ends, as a share of lr."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What is computed in; bf16 keeps fp32 master weights."""
    recompute: Literal["off", "layers", "auto"] = "off"
    """`layers`: compute each anew in the backward pass, in less memory; `auto`: if a larger batch fits so."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without recomputing as before there was any: a plan that asks for none keeps its ids."""
        fields: dict[str, Any] = serialize(self)
        if self.recompute == "off":
            fields.pop("recompute", None)
        return fields

    @model_validator(mode="after")
    def _warm_before_decay(self) -> Recipe:
        if self.decay != "none" and self.warmup > self.decay_from:
            raise ValueError(f"warmup {self.warmup} ends after decay_from {self.decay_from}")
        return self


class TopUp(Strict):
    """Confirmation in two looks: seeds for all, and more for what is undecided after them."""

    first: Literal[3] = 3
    """Seeds of every promoted variant, tested at level 0.02."""
    then: Literal[5] = 5
    """Seeds of what is undecided by then, tested at level 0.035: together 5 % (alpha is 0.05)."""


class Stage(Strict):
    """Steps, equal for baseline and variants; screening stages have one seed, the last confirms."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    """Label in tables."""
    steps: int = Field(ge=1, le=10_000_000)
    """Optimizer steps."""
    seeds: Annotated[int | TopUp | None, BeforeValidator(_seeds)] = None
    """Fresh seeds of a confirming stage, or {first: 3, then: 5}; 5 if not given."""

    @property
    def first_seeds(self) -> int:
        """Seeds that every confirmed variant gets."""
        return self.seeds.first if isinstance(self.seeds, TopUp) else self.seeds or 1

    @property
    def most_seeds(self) -> int:
        """The same with a top-up, where there may be one."""
        return self.seeds.then if isinstance(self.seeds, TopUp) else self.seeds or 1


SEEDS_OF_A_LOOK = 2
"""Seeds of the noise floor that a look needs at least: with one of them failed there is still a spread."""


class Screen(Strict):
    """What a quick variant must show to be confirmed."""

    prune_below: Threshold = 0.001
    """d_acc under which a variant is pruned, as a fraction."""
    promote_at_most: int | None = Field(default=None, ge=1)
    """How many survivors go on, best first; null for all."""
    noise_floor_seeds: int = Field(default=0, ge=0, le=100)
    """Further seeds on which the quick baseline is trained, to know the noise."""
    futility_look: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the first stage's steps after which a variant too far behind is stopped; null: none is."""

    @field_validator("futility_look")
    @classmethod
    def _noise_is_known(cls, look: float | None, info: ValidationInfo) -> float | None:
        seeds = info.data.get("noise_floor_seeds", SEEDS_OF_A_LOOK)
        if look is not None and seeds < SEEDS_OF_A_LOOK:
            raise ValueError(
                f"a look holds variants against the noise floor, and noise_floor_seeds is {seeds}; give at "
                f"least {SEEDS_OF_A_LOOK}, or leave the look out"
            )
        return look

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a look as before there was one: a plan that asks for none keeps its id."""
        fields: dict[str, Any] = serialize(self)
        if self.futility_look is None:
            fields.pop("futility_look", None)
        return fields


class Claim(Strict):
    """What counts as an effect, and how sure one has to be."""

    at_least: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """The smallest gain worth claiming, as a fraction."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of plans without any effect that may claim one."""


class Limits(Strict):
    """How long to try, and with how much memory."""

    retries: int = Field(default=5, ge=0, le=1000)
    """Tries after an infrastructure failure; a network that fails is waited for instead."""
    wait_network: Annotated[Literal["forever"] | float, BeforeValidator(_wait)] = "forever"
    """Seconds to wait for a network that fails, in one `fsearch run`, or forever."""
    memory_mib: int | None = Field(default=None, ge=1, le=100_000_000)
    """Memory that an attempt may take, in MiB; null: nine tenths of what is free when its search begins."""


SCORE = "score"
"""The metric that every task has: the mean over examples of the share of right answer tokens."""


class Generate(Strict):
    """Completions of validation examples, token by token from their prompts, after the last step."""

    max_tokens: int = Field(ge=1, le=100_000)
    """Longest completion, in tokens; one that has not ended by then is judged as it is."""
    temperature: float = Field(default=0.0, ge=0, le=100)
    """0 takes the likeliest token; above it tokens are drawn with softmax(logits / temperature)."""
    samples: int = Field(default=1, ge=1, le=1000)
    """Completions of each example; more than one need a temperature above 0."""
    examples: int | None = Field(default=None, ge=1)
    """How many examples of each half that is scored, always the same ones; null for all."""
    at: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_listed)] = ()
    """Further steps after which it is done, on the first half that is scored; they decide nothing."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Generate:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"at temperature 0 all {self.samples} samples are one completion; give a temperature above "
                "0, or leave samples out"
            )
        return self


class Evaluate(Strict):
    """What is evaluated beside the score, which is always that of the last step."""

    every: int | None = Field(default=None, ge=1)
    """Steps between the evaluations of the curve; null: eight times a run."""
    generate: Generate | None = None
    """Completions, for the metrics that judge them; null: nothing is generated."""
    code_exec: Literal["off", "bwrap", "unsafe"] = "off"
    """Whether generated programs are run: not at all, in a sandbox, or with this user's rights."""

    @model_validator(mode="after")
    def _something_can_be_run(self) -> Evaluate:
        if self.code_exec != "off" and self.generate is None:
            raise ValueError(
                f"code_exec is {self.code_exec}, but no programs are generated; add "
                "generate: {max_tokens: ...}, or leave code_exec out"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without completions as before there were any: a plan that asks for none keeps its id."""
        fields: dict[str, Any] = serialize(self)
        if self.generate is None:
            fields = {"every": self.every}
        return fields


class Largest(Strict):
    """The largest batch that fits in one micro-batch."""

    at_most: int | None = Field(default=None, ge=1)
    """Never more than this; null for no bound."""


def _batch(value: Any) -> Any:
    if value == "largest":
        return Largest()
    if isinstance(value, dict) and set(value) == {"largest"} and isinstance(value["largest"], dict):
        return Largest(**value["largest"])
    if isinstance(value, bool) or not isinstance(value, int | Largest):
        raise ValueError(f"{value!r} is not a batch; write a number, `largest`, or a list of numbers")
    if isinstance(value, int) and not 1 <= value <= 1_000_000:
        raise ValueError(f"a batch of {value} examples is not possible; write 1 or more")
    return value


def _variant(value: Any) -> Any:
    if isinstance(value, str):
        if value == BASELINE:
            raise ValueError("the baseline no_fs is always trained; leave it out of the variants")
        return parse_name(value)
    if isinstance(value, dict) and value.get("name") == BASELINE:
        raise ValueError("the name no_fs is the baseline's; choose another")
    return value


Batch = Annotated[int | Largest, BeforeValidator(_batch)]
Variants = Annotated[
    tuple[Annotated[Variant, BeforeValidator(_variant)], ...], BeforeValidator(_tupled), Field(min_length=1)
]
Stages = Annotated[tuple[Stage, ...], BeforeValidator(_tupled), Field(min_length=1, max_length=3)]


class TaskOptions(Strict):
    """The fields of a task entry that are not the task's own arguments."""

    task: str
    """Name of the task."""
    batch: Annotated[tuple[Batch, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Examples an optimizer step: a number, `largest`, or a list: one search each."""
    train: dict[str, Any] = {}
    """Fields of the plan's `train` to replace for this task."""
    stages: Stages | None = None
    """In place of the plan's."""
    screen: Screen | None = None
    """In place of the plan's."""
    variants: Variants | None = None
    """In place of the plan's."""
    evaluate: Evaluate | None = None
    """In place of the plan's."""
    metric: str | None = None
    """In place of the plan's."""


class PlanFields(Strict):
    """The top level of a plan file."""

    name: str = Field(min_length=1, max_length=200)
    """Title, for people."""
    seed: int = Field(default=0, ge=0)
    """Master seed: enters every random stream and every id."""
    model: Model
    """What is trained."""
    train: Recipe
    """How it is trained."""
    stages: Stages
    """One to three: all but the last screen, the last confirms. One alone gives verdicts directly."""
    screen: Screen | None = None
    """When a variant is pruned."""
    claim: Claim = Claim()
    """What may be claimed."""
    limits: Limits = Limits()
    """When to give up."""
    evaluate: Evaluate = Evaluate()
    """Curves and completions."""
    metric: str = SCORE
    """What is screened and confirmed on: the score, or another metric of every task of the plan."""
    notify: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = None
    """Command that gets a line of JSON when something happens that a person waits for; null for none."""
    variants: Variants
    """Names and mappings; the baseline no_fs is always trained."""
    tasks: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_tupled), Field(min_length=1)]
    """One mapping a task: its name, batch and arguments, and what it overrides."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """With the score for a metric as before there was another one: the plan keeps its id."""
        fields: dict[str, Any] = serialize(self)
        if self.metric == SCORE:
            fields.pop("metric", None)
        return fields
