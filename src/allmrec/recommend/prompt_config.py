"""Everything that decides what the language model reads and how its answer is taken."""

from __future__ import annotations

from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.projections import ProjectionConfig
from allmrec.prompting.slots import SlotKind
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget
from allmrec.recommend.select import PointerConfig

__all__ = ["PromptConfig", "check_prompt", "check_template"]


class PromptConfig(Config):
    """Everything that decides what the language model reads and how its answer is taken."""

    template: PromptTemplate = PromptTemplate()
    budget: PromptBudget = PromptBudget()
    projection: ProjectionConfig = ProjectionConfig()
    pointer: PointerConfig = PointerConfig()
    user_vector: bool = Field(True, description="Fill the user slot; off: the prompt has none (paper, Table 9).")
    item_vectors: bool = Field(True, description="Fill item slots; off: the prompt has none (paper, Table 9).")
    slots: SlotKind = Field(
        "counts",
        description="What an item slot carries: the joint vector that counts, e or q (paper); both side by side; or a "
        "mixture by the item's number of interactions (ours).",
    )


def check_prompt(lm: LanguageModel, config: PromptConfig) -> None:
    """Whether a language model can read such prompts; asked before anything is trained.

    Raises:
        ConfigError: it cannot: a list in parallel needs a model that can be told which places to see, and the pointer head at an
            early layer one that can be cut there.
    """
    check_template(lm, config.template)
    if config.pointer.layers:
        lm.check_layers(config.pointer.layers)


def check_template(lm: LanguageModel, template: PromptTemplate) -> None:
    """Whether a language model can read prompts of a template.

    Raises:
        ConfigError: the template lists candidates in parallel, and the model cannot be told which places to see.
    """
    if template.is_parallel and not (lm.reads_trees and lm.keeps_places):
        why = (
            "what its layers keep of a place cannot be put together anew"
            if lm.reads_trees
            else "it reads a text in its order alone (recurrent or convolutional layers, ALiBi, or the like)"
        )
        raise ConfigError(
            f"The prompt lists candidates in parallel, and {lm.name} cannot read such a list: {why}. Set "
            'tune.prompt.template.form = "paper" and leave tune.prompt.template.parallel out, or use another language model.'
        )
