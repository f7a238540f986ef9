"""One run's whole configuration and the named recipes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from allmrec.alignment.objective import AlignConfig
from allmrec.baselines.bm25 import BM25Config
from allmrec.baselines.ctrl import CTRLConfig
from allmrec.baselines.ease import EASEConfig
from allmrec.baselines.fusion import FusionConfig
from allmrec.baselines.item_knn import ItemKNNConfig
from allmrec.baselines.morec import MoRecConfig
from allmrec.baselines.recformer_training import RecformerTrainingConfig
from allmrec.cf.pretrain import PretrainConfig
from allmrec.cf.registry import BACKBONES
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError
from allmrec.core.places import ModelName
from allmrec.core.training import TrainingConfig
from allmrec.data.catalogue import ItemTextTemplate
from allmrec.llm.adapters import LoRAConfig
from allmrec.llm.precision import Precision
from allmrec.recommend.explain import ExplainConfig
from allmrec.recommend.generate import GenerateConfig
from allmrec.recommend.language_ranker import Normalisation
from allmrec.recommend.retrieve import RetrieveConfig
from allmrec.recommend.tune import TuneConfig
from allmrec.text.encoder import EncoderConfig

__all__ = [
    "EvaluationConfig",
    "RunConfig",
    "SystemsConfig",
    "for_backbone",
    "load_recipe",
    "parse_changes",
    "recipe_names",
]


class EvaluationConfig(Config):
    """Whom to evaluate on, and how the systems answer."""

    users: int | None = Field(None, ge=1, description="Test users; none: all that have a test item.")
    title_users: int | None = Field(
        None, ge=1, description="The first so many of them for systems that score titles, which is slow; none: all."
    )
    candidates: int = Field(20, ge=2, description="Candidates a user, the target included.")
    normalisation: Normalisation = Field("sum", description="How a title's token log-probabilities become a score.")
    batch_size: int = Field(8, ge=1, description="Queries in a forward pass of the language model.")
    generate: GenerateConfig = GenerateConfig()
    cold_below: int | None = Field(
        None,
        ge=0,
        description="Cold by rule (ours): items with fewer training interactions take their text vector; none: the row "
        "of the table chooses on validation items, and recommendations use CF vectors.",
    )
    proposals: int = Field(
        20, ge=10, description="Candidates that are retrieved for ranking where the whole catalogue is evaluated."
    )
    cold_users: int = Field(200, ge=1, description="Validation users by which cold_below is chosen.")


class SystemsConfig(Config):
    """The systems beside A-LLMRec that a run can train (`--system`). What they have in common is said elsewhere: the CF
    models take `pretrain`, TALLRec takes stage 2's prompt and samples, texts are `item_text`."""

    text_history: int = Field(10, ge=1, description="Items of the history that text similarity compares.")
    bm25: BM25Config = BM25Config()
    item_knn: ItemKNNConfig = ItemKNNConfig()
    ease: EASEConfig = EASEConfig()
    fusion: FusionConfig = FusionConfig()
    encoder_tune: Literal["full", "frozen"] | int = Field(
        "full",
        description="What MoRec and CTRL train of the sentence encoder: everything, nothing, or the last n layers.",
    )
    morec: MoRecConfig = MoRecConfig()
    ctrl: CTRLConfig = CTRLConfig()
    recformer: RecformerTrainingConfig = RecformerTrainingConfig()
    lora: LoRAConfig = LoRAConfig()
    tallrec: TrainingConfig = TrainingConfig(learning_rate=1e-4, batch_size=4, epochs=5)
    tallrec_validation_users: int | None = Field(
        None,
        ge=0,
        description="Users whose validation item TALLRec ranks at each validation, with every layer and every title; none: "
        "`tune.validation_users`.",
    )


class RunConfig(Config):
    """A run: three stages and an evaluation. The defaults are the paper's; recipes change named fields."""

    pretrain: PretrainConfig = PretrainConfig()
    align: AlignConfig = AlignConfig()
    tune: TuneConfig = TuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    encoder: EncoderConfig = EncoderConfig(name="sentence-transformers/all-mpnet-base-v2")
    item_text: ItemTextTemplate = ItemTextTemplate()
    retrieve: RetrieveConfig = RetrieveConfig()
    explain: ExplainConfig = ExplainConfig()
    systems: SystemsConfig = SystemsConfig()
    llm: ModelName = Field("facebook/opt-6.7b", description="Causal language model, by name or folder.")
    llm_precision: Precision = Field(
        "auto",
        description="How the frozen language model is held: auto is bfloat16 on a GPU and on a CPU that a short probe finds "
        "faster at it, else float32; int8 and int4 need the extra `quantised`.",
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
        return _with_changes(self.model_dump(mode="json"), changes, "The run's configuration")


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    folder = resources.files("allmrec.pipeline") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(recipe: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """A run's configuration from a recipe and single changes.

    Args:
        recipe: a name of `recipe_names()`, or a path of a TOML file. With `base` it says what it changes of another one: a name,
            or a path from its own folder.
        changes: fields such as `tune.training.epochs` with their values; see `parse_changes`.

    Raises:
        ConfigError: no such recipe, no such field, or a value that does not fit.
    """
    values = _read_recipe(recipe)
    given = " with the changes given" if changes else ""
    return _with_changes(values, changes or {}, f"The recipe {recipe}{given}")


def _read_recipe(recipe: str, folder: Path | None = None, on: tuple[str, ...] = ()) -> dict[str, Any]:
    """A recipe's values over those of its base.

    Args:
        recipe: as of `load_recipe`.
        folder: of the recipe that names this one as its base.
        on: the recipes on the way here, the first one first.
    """
    path: Path | None = (folder or Path()) / recipe
    if recipe in recipe_names():
        text, path = (resources.files("allmrec.pipeline") / "recipes" / f"{recipe}.toml").read_text("utf-8"), None
    elif path is not None and path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise ConfigError(f"There is no recipe {recipe!r}: neither a file nor one of {', '.join(recipe_names())}.")
    name = recipe if path is None else str(path.resolve())
    if name in on:
        raise ConfigError(f"The recipe {recipe} is its own base: {' -> '.join((*on, name))}.")
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The recipe {recipe} is no TOML: {error}.") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"The recipe {recipe} has base = {base!r}; expected the name or the path of a recipe.")
    return _over(_read_recipe(base, None if path is None else path.parent, (*on, name)), values)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values with others in their place; groups of fields are joined."""
    joined = dict(below)
    for name, value in above.items():
        under = joined.get(name)
        joined[name] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return joined


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Changes from the command line: `field=value`, the value as TOML, else as text; `none` for nothing.

    Raises:
        ConfigError: a text without a name or an equals sign.
    """
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"Cannot read the change {text!r}; expected field=value, e.g. tune.training.epochs=3.")
        changes[name.strip()] = _toml_value(value.strip())
    return changes


def _with_changes(values: dict[str, Any], changes: Mapping[str, Any], where: str) -> RunConfig:
    values = _for_backbone(values, changes.get("pretrain.backbone"))
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"Cannot change {name}: {parent} is a single value, not a group of fields.")
        place[last] = value
    return parse_config(RunConfig, values, where)


def for_backbone(config: PretrainConfig, name: str) -> PretrainConfig:
    """The same training of another backbone: vectors of the same length over as many items, its own habits otherwise."""
    values = _for_backbone({"pretrain": config.model_dump(mode="json")}, name)["pretrain"] | {"backbone": name}
    return parse_config(PretrainConfig, values, f"The training of {name}")


def _for_backbone(values: dict[str, Any], name: Any) -> dict[str, Any]:
    """Where another backbone is asked for, of the old one's settings only those that mean the same in all of them."""
    pretrain = values.get("pretrain", {})
    if not isinstance(name, str) or name == pretrain.get("backbone", "sasrec") or name not in BACKBONES:
        return values
    fields = BACKBONES[name].config.model_fields
    # A loss or a dropout that suits one suits not the other.
    shared = {"dim", "max_length"} & fields.keys()
    model = {field: value for field, value in pretrain.get("model", {}).items() if field in shared}
    return values | {"pretrain": pretrain | {"model": model}}


def _toml_value(text: str) -> Any:
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
