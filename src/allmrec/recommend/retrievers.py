"""A-LLMRec's retriever, and the same with items that came after training, at the cost of these alone."""

from __future__ import annotations

from allmrec.cf.fused import FusedBackbone
from allmrec.core.errors import ConfigError
from allmrec.recommend.item_indexer import ItemIndexer
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.retrieve import BackboneRetriever, JointRetriever, RetrieveConfig, Retriever, WithNewItems

__all__ = ["Retrievers"]


class Retrievers:
    """Makes A-LLMRec's retriever of the items that it begins with, and of these with later ones beside them.

    Tables and indices of the items that it begins with are made once, and shared by all that it makes. With later items it
    computes vectors of these alone.

    Args:
        ranker: gives the CF model that knows most (`prior`) and the joint vectors.
        config: by what to look.
        towers: the CF model and the text tower as one, where they are trained.
        indexer: gives indices of items; none: as `config` has it, in memory.

    Attributes:
        known: the retriever of the items that it begins with.

    Raises:
        ConfigError: `by` is towers, and there are none.
    """

    def __init__(
        self,
        ranker: PromptedRanker,
        config: RetrieveConfig,
        towers: FusedBackbone | None = None,
        indexer: ItemIndexer | None = None,
    ) -> None:
        if towers is None and config.by == "towers":
            raise ConfigError(
                "answer.retrieve.by is towers, and they are not trained: allmrec train RUN --system towers"
            )
        self._config, self._n_items = config, ranker.joint.n_items
        self._indexer = indexer or ItemIndexer(
            config.approximate_above, config.compressed_above, config.recall, config.items
        )
        self._by_towers = towers is not None and config.by != "cf"
        model, name = (towers, "towers") if towers is not None and self._by_towers else (ranker.prior, "backbone")
        self._backbone = BackboneRetriever(model, self._indexer, name)
        self._joint: JointRetriever | None = None
        self.known: Retriever = (
            self._backbone if bool(ranker.joint.has_cf[1:].all()) else self.with_items(ranker, towers)
        )

    def with_items(self, ranker: PromptedRanker, towers: FusedBackbone | None = None) -> Retriever:
        """The retriever of the items that it begins with and those behind them.

        Args:
            ranker: with all items.
            towers: with all items.
        """
        first = self._n_items + 1
        if towers is not None and self._by_towers:
            return self._backbone.with_later(towers, towers.item_vectors_from(first))
        known = ranker.prior.n_items
        if self._joint is None:
            # Not before there are items that the CF model does not know; those that it begins with are first in the table.
            vectors = ranker.joint.vectors()[:first].float().cpu().numpy()
            self._joint = JointRetriever(vectors, self._config.max_history, self._indexer, known)
        return WithNewItems(self._backbone, self._joint.with_later(ranker.joint.vectors(first)), known)
