"""TALLRec: LLM-Only whose language model was tuned by low-rank adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.morec import check_texts
from allmrec.core.resume import Checkpoint
from allmrec.core.tensors import as_tensors, filled
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.splitting import Split
from allmrec.llm.adapters import AdaptedLanguageModel, LoRAAdapters, LoRAConfig
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget, TitleTokens
from allmrec.ranking import Query, Ranking
from allmrec.recommend.language_ranker import Normalisation
from allmrec.recommend.samples import SampleConfig, StageTwoBatch, StageTwoSamples, rank_figures

__all__ = ["TALLRec", "TALLRecConfig", "train_tallrec"]


class TALLRecConfig(SampleConfig):
    """How TALLRec reads and is trained: samples and rates are those of A-LLMRec's stage 2."""

    lora: LoRAConfig = LoRAConfig()
    template: PromptTemplate = PromptTemplate()
    budget: PromptBudget = PromptBudget()
    training: TrainingConfig = TrainingConfig(learning_rate=1e-4, batch_size=4, epochs=5)


class TALLRec(nn.Module):
    """TALLRec (Bao et al., RecSys 2023) as A-LLMRec's authors used it: the text prompt, and adapters on the LLM.

    From that paper: LoRA on the query and value projections, r = 8, alpha = 16, dropout 0.05, the language model itself
    frozen. From A-LLMRec's (section 4.1): the task is to name the next item among candidates, where TALLRec's own is to
    say yes or no to one item; so the prompt is A-LLMRec's without vectors, the loss is the one on the target's title,
    and an answer is what LLM-Only's is. Ours: every candidate's title is scored in place of decoding, the weights of the
    best validation are kept, and there is no first round of tuning on general instructions (TALLRec's Alpaca tuning),
    which an instruction-tuned language model has behind it.

    The language model is shared: outside of this system's own calls it is what it was, for any other system too.
    Parameters and `state_dict` are the adapters' alone, under the names that peft gives them in its own files.

    Args:
        lm: the language model.
        titles: by item number, entry 0 unused.
        config: the prompt and the adapters.
        seed: of the adapters' initialisation.
        normalisation: how token log-probabilities become one score.
        batch_size: queries in a forward pass.

    Raises:
        MissingExtraError: peft is not installed.
        ConfigError: it is not known which layers of the language model to adapt.
    """

    name = "TALLRec"

    def __init__(
        self,
        lm: TransformersLM,
        titles: Sequence[str | None],
        config: TALLRecConfig,
        seed: int = 0,
        normalisation: Normalisation = "sum",
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        adapters = LoRAAdapters(lm, config.lora, seed)
        # peft's files name parameters from here: base_model.model.<path in the language model>.
        self.base_model = nn.ModuleDict({"model": adapters})
        adapted = AdaptedLanguageModel(lm, adapters)
        self._reader = LLMOnly(adapted, titles, config.template, config.budget, normalisation, batch_size)
        self.eval()

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray | Tensor],
        lm: TransformersLM,
        titles: Sequence[str | None],
        config: TALLRecConfig,
        normalisation: Normalisation = "sum",
        batch_size: int = 4,
    ) -> TALLRec:
        """Build one from its `state_dict`, the same language model and the same config.

        Raises:
            ArtifactError: a parameter is missing, superfluous or of another shape.
        """
        made = cls(lm, titles, config, normalisation=normalisation, batch_size=batch_size)
        return filled(made, as_tensors(arrays), f"TALLRec of {config.lora!r} on {lm.name}")

    @property
    def reader(self) -> LLMOnly:
        """LLM-Only around the language model with the adapters on: what reads, and what can be asked in words."""
        return self._reader

    @property
    def titles(self) -> TitleTokens:
        """The catalogue's titles as the prompts show them."""
        return self._reader.titles

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates by their titles' likelihood."""
        return self._reader.rank(queries, candidates)

    def title_likelihoods(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> list[Float[Tensor, "_titles _tokens"]]:
        """Log-probability of each token of each candidate's title, all queries in one forward pass."""
        return self._reader.title_likelihoods(queries, candidates)

    def title_loss(
        self,
        queries: Sequence[Query],
        candidates: Sequence[Int[np.ndarray, " _candidates"]],
        targets: Int[np.ndarray, " batch"],
    ) -> Float[Tensor, ""]:
        """Cross-entropy on the tokens of the target's title and its EOS; see `LLMOnly.title_loss`."""
        return self._reader.title_loss(queries, candidates, targets)


class TALLRecTask:
    """What `fit` needs: stage 2's samples, the title loss, validation by rank."""

    def __init__(self, model: TALLRec, split: Split, config: TALLRecConfig, seed: int) -> None:
        self._model = model
        self._samples = StageTwoSamples(
            split, config, config.training, model.titles, config.budget.max_history, seed=seed
        )

    def batches(self, epoch: int) -> Sequence[StageTwoBatch]:
        return self._samples.batches(epoch)

    def losses(self, batch: StageTwoBatch) -> Mapping[str, Tensor]:
        return {"title": self._model.title_loss(batch.queries, batch.candidates, batch.targets)}

    def shares(self, batch: StageTwoBatch, count: int) -> list[tuple[StageTwoBatch, dict[str, float]]]:
        """The batch's queries for `count` processes; the loss is a mean over the targets' tokens."""
        return [(part, {"title": of_tokens}) for part, of_tokens, _ in self._samples.parts(batch, count)]

    def validate(self) -> Mapping[str, float]:
        """Mean NDCG, Hit@1 and margin of the target over the validation users."""
        return rank_figures((self._scores(batch), batch.targets) for batch in self._samples.validation)

    def _scores(self, batch: StageTwoBatch) -> Float[Tensor, "batch candidates"]:
        likelihoods = self._model.title_likelihoods(batch.queries, batch.candidates)
        return torch.stack([row.sum(dim=-1) for row in likelihoods])


def train_tallrec(
    split: Split,
    lm: TransformersLM,
    titles: Sequence[str | None],
    config: TALLRecConfig,
    seed: int,
    resume: Checkpoint | None = None,
) -> tuple[TALLRec, TrainingLog]:
    """Train TALLRec on the samples that A-LLMRec's stage 2 would draw, and keep the best validation's adapters.

    It is trained where the language model is. Its `state_dict` is what to store, and `TALLRec.from_arrays` loads it. A
    backward pass keeps every layer's activations: memory grows with `training.batch_size` times the prompt's tokens.

    Args:
        split: its training part is learned from, its validation items are watched.
        lm: the language model; it is left as it is, and other systems may go on using it.
        titles: by item number, entry 0 unused.
        config: prompt, adapters, samples and training.
        seed: names every draw.
        resume: where to keep the resume state, if the run is to survive being killed.

    Returns:
        The system in evaluation mode, and what happened.

    Raises:
        MissingExtraError: peft is not installed.
        ConfigError: it is not known which layers to adapt, or no user has a position to train on.
        DataError: the number of titles does not fit the data.
    """
    check_texts(titles, split)
    model = TALLRec(lm, titles, config, seed)
    task = TALLRecTask(model, split, config, seed)
    log = fit(model, task, config.training, "train TALLRec", resume, seed=seed)
    return model, log
