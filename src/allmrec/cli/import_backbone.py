"""`allmrec import-backbone`: vectors of another recommender in the place of a CF model that is trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from allmrec.cf import import_vectors
from allmrec.cli.options import announce
from allmrec.data.interactions import InteractionDataset

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("import-backbone", help="Take the item and user vectors of a recommender that you already have.")
    def import_backbone(
        data: Annotated[Path, typer.Argument(help="Prepared data that the vectors belong to.", show_default=False)],
        items: Annotated[
            Path, typer.Option("--items", help="Item vectors: .npy, .parquet or .safetensors.", show_default=False)
        ],
        output: Annotated[
            Path, typer.Option("-o", "--output", help="File to write (.safetensors).", show_default=False)
        ],
        users: Annotated[Path | None, typer.Option("--users", help="User vectors, in the same forms.")] = None,
        item_ids: Annotated[
            Path | None, typer.Option(help="Item ids, one a line, where the vectors' file holds none.")
        ] = None,
        user_ids: Annotated[Path | None, typer.Option(help="User ids, one a line, likewise.")] = None,
        skip_unknown: Annotated[
            bool, typer.Option("--skip-unknown", help="Leave out vectors of ids that the data does not hold.")
        ] = False,
    ) -> None:
        dataset = InteractionDataset.load(data)
        unknown: Literal["fail", "leave_out"] = "leave_out" if skip_unknown else "fail"
        found = import_vectors(dataset, output, items, users, item_ids, user_ids, unknown)
        announce(
            f"{found['items']:,} items and {found['users']:,} of {dataset.n_users:,} users have a vector of "
            f"{found['dim']} numbers; left out as unknown: {found['unknown_items']:,} items, "
            f"{found['unknown_users']:,} users."
        )
        announce(f"Written: {output}")
        announce(
            f"Next: allmrec train {data} -o RUN --backbone imported --set pretrain.model.vectors={output}"
            "   # without a GPU: --recipe cpu"
        )
