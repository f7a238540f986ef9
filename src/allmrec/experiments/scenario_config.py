"""The settings of each scenario; what one makes of a data set stands in `scenarios`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from allmrec.core.config import Config

__all__ = [
    "ALL",
    "COLD",
    "WARM",
    "ColdItemsConfig",
    "ColdUsersConfig",
    "CrossDomainConfig",
    "FewShotConfig",
    "ScenarioConfig",
    "StandardConfig",
    "groups_of",
]

ALL, COLD, WARM = "all users", "cold items", "warm items"
"""Groups of users; every scenario has the first."""


class StandardConfig(Config):
    """Everybody trains, everybody's last item tests."""

    kind: Literal["standard"] = "standard"


class ColdItemsConfig(Config):
    """As `standard`, with the users whose test item is cold, or warm, apart (A-LLMRec, section 4.2, Table 4)."""

    kind: Literal["cold-items"] = "cold-items"
    share: float = Field(
        0.35,
        gt=0,
        le=0.5,
        description="Part of the catalogue, by training interactions, that is cold; as much is warm.",
    )
    more: int | None = Field(
        1000,
        ge=0,
        description="Users with a cold test item that are asked at the most, beside those drawn from everybody; none: all.",
    )


class ColdUsersConfig(Config):
    """Asked are users of just so many interactions, who are in no training at all (A-LLMRec, section 4.2, Table 5)."""

    kind: Literal["cold-users"] = "cold-users"
    interactions: int = Field(3, ge=3, description="Interactions of a cold user, the test item included.")


class FewShotConfig(Config):
    """Everything, the CF model included, trains on so many users; everybody is asked (A-LLMRec, section 4.2, Table 6)."""

    kind: Literal["few-shot"] = "few-shot"
    users: int = Field(ge=2, description="K: users that train, drawn by the cell's seed.")


class CrossDomainConfig(Config):
    """Trained on one data set, asked about the users and items of another by texts (A-LLMRec, section 4.2, Table 7)."""

    kind: Literal["cross-domain"] = "cross-domain"
    to: str | None = Field(
        None, description="The data set that is asked about, by its name in the plan; none: the one behind in the plan."
    )


ScenarioConfig = Annotated[
    StandardConfig | ColdItemsConfig | ColdUsersConfig | FewShotConfig | CrossDomainConfig, Field(discriminator="kind")
]


def groups_of(config: ScenarioConfig) -> tuple[str, ...]:
    """The groups of users that a scenario has figures of."""
    return (ALL, COLD, WARM) if isinstance(config, ColdItemsConfig) else (ALL,)
