"""The backbones that `pretrain` can train, by name: the one place where a new one is entered.

Another package adds one by an entry point of the group `allmrec.backbones` that names a `BackboneKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.gru4rec import GRU4Rec, GRU4RecConfig
from allmrec.cf.imported import Imported, ImportedConfig
from allmrec.cf.ncf import NCF, NCFConfig
from allmrec.cf.nextitnet import NextItNet, NextItNetConfig
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.registry import Registry
from allmrec.data.splitting import Split

__all__ = ["BACKBONES", "BackboneKind", "backbone_kind"]


@dataclass(frozen=True)
class BackboneKind:
    """How to make one kind of backbone.

    Attributes:
        title: the name as it stands in a table.
        config: class of its settings.
        build: makes an untrained one from the number of items, the number of users and the settings.
        load: makes a trained one from its stored parameters and the settings.
        ready: makes one that needs no training from the split and the settings; none: `pretrain` trains what `build`
            made.
    """

    title: str
    config: type[Config]
    build: Callable[[int, int, Any], SequenceBackbone]
    load: Callable[[Mapping[str, np.ndarray | Tensor], Any], SequenceBackbone]
    ready: Callable[[Split, Any], SequenceBackbone] | None = None


_OURS = {
    "sasrec": BackboneKind(
        title="SASRec",
        config=SASRecConfig,
        build=lambda n_items, n_users, config: SASRec(n_items, config),
        load=SASRec.from_arrays,
    ),
    "gru4rec": BackboneKind(
        title="GRU4Rec",
        config=GRU4RecConfig,
        build=lambda n_items, n_users, config: GRU4Rec(n_items, config),
        load=GRU4Rec.from_arrays,
    ),
    "nextitnet": BackboneKind(
        title="NextItNet",
        config=NextItNetConfig,
        build=lambda n_items, n_users, config: NextItNet(n_items, config),
        load=NextItNet.from_arrays,
    ),
    "ncf": BackboneKind(
        title="NCF",
        config=NCFConfig,
        build=NCF,
        load=NCF.from_arrays,
    ),
    "imported": BackboneKind(
        title="Imported CF",
        config=ImportedConfig,
        build=Imported.empty,
        load=Imported.from_arrays,
        ready=Imported.of_config,
    ),
}

BACKBONES: Registry[BackboneKind] = Registry("allmrec.backbones", BackboneKind, _OURS)


def backbone_kind(name: str) -> BackboneKind:
    """Look a backbone up.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in BACKBONES:
        raise ConfigError(f"There is no backbone {name!r}; known are {', '.join(sorted(BACKBONES))}.")
    return BACKBONES[name]
