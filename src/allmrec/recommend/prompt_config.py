"""Everything that decides what the language model reads and how its answer is taken."""

from __future__ import annotations

from pydantic import Field

from allmrec.core.config import Config
from allmrec.prompting.projections import ProjectionConfig
from allmrec.prompting.slots import SlotKind
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget
from allmrec.recommend.select import PointerConfig

__all__ = ["PromptConfig"]


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
