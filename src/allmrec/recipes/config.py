"""One run's whole configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from allmrec.alignment.objective import AlignConfig
from allmrec.cf.pretrain import PretrainConfig
from allmrec.cf.registry import BACKBONES
from allmrec.core.config import Config, defaults, merged, parse_config
from allmrec.core.errors import ConfigError
from allmrec.core.places import ModelName
from allmrec.data.catalogue import ItemTextTemplate
from allmrec.llm.precision import Precision
from allmrec.recommend.explain import ExplainConfig
from allmrec.recommend.generate import GenerateConfig
from allmrec.recommend.language_ranker import Normalisation
from allmrec.recommend.retrieve import RetrieveConfig
from allmrec.recommend.tune import TuneConfig
from allmrec.text.encoder import EncoderConfig
from allmrec.text.source import TextsConfig

__all__ = [
    "AnswerConfig",
    "EvaluationConfig",
    "LLMConfig",
    "RunConfig",
    "config_with",
    "for_backbone",
    "single_changes",
]


class LLMConfig(Config):
    """The frozen language model."""

    name: ModelName = Field("facebook/opt-6.7b", description="Causal language model, by name or folder.")
    precision: Precision = Field(
        "auto",
        description="How it is held: auto is bfloat16 on a GPU and on a CPU that a short probe finds faster at it, else "
        "float32; int8 and int4 need the extra `quantised`.",
    )
    trust_remote_code: bool = Field(
        False,
        description="Whether Python files that come with the model may run; they can do all that you can (docs/trust.md).",
    )


class AnswerConfig(Config):
    """How a trained run answers, evaluated or asked. It decides nothing about training."""

    normalisation: Normalisation = Field("sum", description="How a title's token log-probabilities become a score.")
    batch_size: int = Field(8, ge=1, description="Queries in a forward pass of the language model.")
    cold_below: int | None = Field(
        None,
        ge=0,
        description="Cold by rule (ours): items with fewer training interactions take their text vector; none: the row "
        "of the table chooses on validation items, and recommendations use CF vectors.",
    )
    cold_users: int = Field(200, ge=1, description="Validation users by which `cold_below` is chosen.")
    generate: GenerateConfig = GenerateConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    explain: ExplainConfig = ExplainConfig()


class EvaluationConfig(Config):
    """Whom to evaluate on."""

    users: int | None = Field(None, ge=1, description="Test users; none: all that have a test item.")
    title_users: int | None = Field(
        None, ge=1, description="The first so many of them for systems that score titles, which is slow; none: all."
    )
    candidates: int = Field(20, ge=2, description="Candidates a user, the target included.")
    order_test: bool = Field(
        False,
        description="Ask every system again with each history shuffled, and report what that costs it; takes as long again.",
    )


class RunConfig(Config):
    """A run: its stages, how it answers and how it is evaluated. The defaults are the paper's; recipes change fields."""

    pretrain: PretrainConfig = PretrainConfig()
    align: AlignConfig = AlignConfig()
    tune: TuneConfig = TuneConfig()
    answer: AnswerConfig = AnswerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    encoder: EncoderConfig = EncoderConfig(name="sentence-transformers/all-mpnet-base-v2")
    item_text: ItemTextTemplate = ItemTextTemplate()
    texts: TextsConfig = TextsConfig()
    llm: LLMConfig = LLMConfig()
    systems: dict[str, dict[str, Any]] = Field(
        {},
        description="Settings of systems beside A-LLMRec, a group for each by its name. Each is checked by its own class; what "
        "is not given there is as in the run's own stages or as that class says.",
    )
    beside: tuple[str, ...] = Field(
        (), description="Systems that `allmrec train` trains beside A-LLMRec where no --system is given, by name."
    )
    held_out_targets: int = Field(
        0, ge=0, description="Last training items of each user that CF does not train on, for stage 2 to learn from."
    )
    held_out_users: int | None = Field(
        None,
        ge=1,
        description="Users whose last training items are withheld; none: all. With few of them CF loses little, and stage 2 "
        "learns beside nearly the CF model that is in use later.",
    )
    seed: int = Field(0, ge=0, description="Seed of everything drawn.")

    @model_validator(mode="after")
    def _held_out_fits(self) -> RunConfig:
        if self.tune.positions == "held_out" and self.held_out_targets == 0:
            raise ValueError("tune.positions is 'held_out', which needs held_out_targets of at least 1")
        return self

    @property
    def method(self) -> Literal["select", "score"]:
        """How A-LLMRec answers: by `select` where the pointer head is trained, else by `score`."""
        return "select" if self.tune.select_weight > 0 else "score"

    def changed(self, changes: Mapping[str, Any]) -> RunConfig:
        """The same configuration with single fields, such as `tune.training.epochs`, changed."""
        return config_with(self.model_dump(mode="json"), changes, "The run's configuration")


def config_with(values: dict[str, Any], changes: Mapping[str, Any], where: str) -> RunConfig:
    """A run's configuration from values with single fields, such as `tune.training.epochs`, changed.

    Raises:
        ConfigError: no such field, or a value that does not fit; the message begins with `where`.
    """
    changes = single_changes(changes)
    # A group of which some fields are given has its own defaults in the others.
    start = _for_backbone(defaults(RunConfig), _pretrain(values).get("backbone"))
    values = _for_backbone(merged(start, values), changes.get("pretrain.backbone"))
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"Cannot change {name}: {parent} is a single value, not a group of fields.")
        if _is_systems(name) or not (isinstance(value, Mapping) and isinstance(place.get(last), Mapping)):
            place[last] = value
    return parse_config(RunConfig, values, where)


def single_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of single fields by their dotted names. A group, as TOML makes of `tune.training.epochs = 3`, changes those of its fields
    that it names. Under the name `systems.NAME` it is all that is said of that system.
    """
    found: dict[str, Any] = {}
    for name, value in changes.items():
        if isinstance(value, Mapping) and value and not _is_systems(name):
            found |= {f"{name}.{field}": one for field, one in single_changes(value).items()}
        else:
            found[name] = value
    return found


def _is_systems(name: str) -> bool:
    """Whether a name is that of all settings of a system, which has no defaults of its own but what the run says elsewhere."""
    return name.startswith("systems.") and name.count(".") == 1


def for_backbone(config: PretrainConfig, name: str) -> PretrainConfig:
    """The same training of another backbone: vectors of the same length over as many items, its own habits otherwise."""
    values = _for_backbone({"pretrain": config.model_dump(mode="json")}, name)["pretrain"] | {"backbone": name}
    return parse_config(PretrainConfig, values, f"The training of {name}")


def _for_backbone(values: dict[str, Any], name: Any) -> dict[str, Any]:
    """Where another backbone is asked for, of the old one's settings only those that mean the same in all of them."""
    pretrain = _pretrain(values)
    if not isinstance(name, str) or name == pretrain.get("backbone", "sasrec") or name not in BACKBONES:
        return values
    fields = BACKBONES[name].config.model_fields
    # A loss or a dropout that suits one suits not the other.
    shared = {"dim", "max_history"} & fields.keys()
    model = pretrain.get("model", {})
    if not isinstance(model, Mapping):
        return values  # refused when it is parsed
    kept = {field: value for field, value in model.items() if field in shared}
    return values | {"pretrain": {**pretrain, "model": kept}}


def _pretrain(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The group of the CF model; none where something else stands in its place, which is refused when it is parsed."""
    found = values.get("pretrain", {})
    return found if isinstance(found, Mapping) else {}
