"""The Ray Data side of `benchmarks.bulk_ray`: recommendations for many users as one writes them by hand. It needs `ray[data]`.

python -m benchmarks.bulk_ray_side RUN USERS OUTPUT --system backbone --block 16384 --actors 2
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from allmrec.core.progress import progress_shown
from allmrec.library import open_run
from allmrec.recommend.request import Request, resolve_users


class Scorer:
    """An actor: it holds the model, and makes a table of a batch of users.

    Args:
        run: folder of a trained run.
        system: of SYSTEMS.
    """

    def __init__(self, run: str, system: str) -> None:
        self._run = open_run(run, "cpu")
        self._recommender = self._run.recommender(system)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        users, answers = batch["item"].tolist(), []
        with progress_shown(False):
            requests, _ = resolve_users(self._run.dataset, Request(()), users)
            for start in range(0, len(requests), 256):
                answers += self._recommender.answer(requests[start : start + 256])
        columns = {
            "item": pa.array(users, pa.int64()),
            "user_id": pa.array([self._run.dataset.users.id(user) for user in users], pa.string()),
            "item_ids": pa.array([[item.item_id for item in answer] for answer in answers], pa.list_(pa.string())),
            "scores": pa.array([[item.score for item in answer] for answer in answers], pa.list_(pa.float32())),
            "answered_by": pa.array([answer.answered_by for answer in answers], pa.string()),
            "note": pa.array([answer.note for answer in answers], pa.string()),
        }
        return pa.table(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("users", type=int, help="the first so many")
    parser.add_argument("output", type=Path)
    parser.add_argument("--system", required=True)
    parser.add_argument("--block", type=int, required=True)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--checkpoints", type=Path, help="where Ray Data keeps which users are done")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.data.checkpoint import CheckpointConfig

    ray.init("local", include_dashboard=False, log_to_driver=False)
    if arguments.checkpoints is not None:
        ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig("item", str(arguments.checkpoints))
    blocks = -(-arguments.users // arguments.block)
    ray.data.from_items(list(range(arguments.users)), override_num_blocks=blocks).map_batches(
        Scorer,
        fn_constructor_args=(str(arguments.run.resolve()), arguments.system),
        batch_size=arguments.block,
        compute=ray.data.ActorPoolStrategy(size=arguments.actors),
    ).write_parquet(str(arguments.output))


if __name__ == "__main__":
    main()
