"""A trained recommender to give away: a run's folder without what only training needs, with a model card."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmrec.core.artifacts import atomic_directory, atomic_write, versions, write_json, write_tensors
from allmrec.core.errors import ConfigError, ModelNotFoundError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.vocabulary import Vocabulary
from allmrec.export.card import model_card
from allmrec.llm.fingerprint import fingerprint
from allmrec.pipeline.run import Run
from allmrec.recommend.allmrec import ALLMRec
from allmrec.stages.cf import known_counts, train_counts
from allmrec.stages.frozen import encoder_fingerprint, language_model
from allmrec.store.stages import stage_files
from allmrec.systems.recommending import allmrec, allmrec_parts

__all__ = ["TrainedALLMRec"]


class TrainedALLMRec(ALLMRec):
    """A-LLMRec as a run trained it. It can be given away and taken up again.

    Args:
        run: the run.
        parts: of `ALLMRec`.
    """

    def __init__(self, run: Run, *parts: Any) -> None:
        super().__init__(*parts)
        self.run = run

    @classmethod
    def of(cls, run: Run) -> TrainedALLMRec:
        """A-LLMRec of a run.

        Raises:
            ArtifactError: the run is not trained, or damaged.
        """
        return allmrec(run, partial(cls, run))

    def save_pretrained(self, folder: Path | str, interactions: bool = False) -> None:
        """Write a folder that `from_pretrained`, `allmrec recommend` and `allmrec serve` take; whole or not at all.

        Of each stage the files that its manifest lists are copied and nothing else that lies there; links are not followed.

        The frozen language model and sentence encoder are named with a fingerprint and not copied. Items that were added
        after training are included, and so are both towers with their vectors of texts, where they retrieve.

        Args:
            folder: where to; an older such folder is replaced.
            interactions: include users' ids and histories, so that `user=` works. They are personal data.

        Raises:
            ConfigError: the folder holds something else.
            ArtifactError: a stage of the run is missing or damaged.
        """
        folder, run = Path(folder), self.run
        stages = allmrec_parts(run)
        run.check(stages)
        if folder.resolve() == run.path.resolve():
            raise ConfigError(f"{folder} is the run itself; give another folder.")
        if folder.exists() and any(folder.iterdir()) and not (folder / "published.safetensors").is_file():
            raise ConfigError(f"{folder} exists and is no saved recommender; give another folder.")
        if interactions and not run.dataset.n_users:
            raise ConfigError(f"{run.path} was itself saved without interactions, so they cannot be included.")
        data = run.dataset if interactions else without_interactions(run.dataset)
        added = self.added
        with atomic_directory(folder) as new:
            for kind in stages:
                # A variant's own stages become those of the folder; what one system alone needs stays under its name.
                stage = run.stage(kind)
                place = new / replace(stage, system=kind.system).place
                place.mkdir(parents=True)
                for path in stage_files(run.path, stage):
                    shutil.copyfile(path, place / path.name)
            data.save(new / "data")
            counts = {"train_counts": train_counts(run), "known_counts": known_counts(run)}
            tensors = {name: torch.from_numpy(values.copy()) for name, values in counts.items()}
            if added:
                table = self.ranker.joint
                tensors |= {"added_text": table.text[-len(added) :], "added_has_text": table.has_text[-len(added) :]}
            if self.added_texts:
                vectors, present = (torch.cat(parts) for parts in zip(*self.added_texts, strict=True))
                tensors |= {"added_titles": vectors, "added_has_title": present}
            write_tensors(new / "published.safetensors", tensors)
            frozen = {
                "llm": {"name": run.config.llm.name, "fingerprint": fingerprint(language_model(run).frozen.module)},
                "encoder": {
                    "name": run.config.encoder.name,
                    "fingerprint": encoder_fingerprint(run),
                },
            }
            about: dict[str, Any] = {
                "catalogue_hash": data.content_hash,
                "frozen": frozen,
                "added": [item.model_dump(mode="json") for item in added],
                "versions": versions(),
            }
            record = run.record()
            # The keys of an earlier run's stages count in those of this one's; where it lies is nobody's business.
            start = None if record.start is None else {**record.start, "run": ""}
            write_json(new / "run.json", replace(record, published=about, start=start).as_json())
            atomic_write(new / "README.md", model_card(run, frozen, interactions, len(added)))

    @classmethod
    def from_pretrained(cls, name: Path | str, device: str = "auto", revision: str | None = None) -> TrainedALLMRec:
        """Read what `save_pretrained` wrote, or any trained run, from a folder or from the hub.

        Args:
            name: a folder, or a hub name such as `someone/games-recommender`.
            device: where to rank; auto: the GPU where there is one.
            revision: branch, tag or commit on the hub.

        Raises:
            ModelNotFoundError: neither a folder nor reachable on the hub; or its language model is.
            ArtifactError: the folder is damaged, or the language model of that name has other weights than the one it was
                trained with. (The sentence encoder is compared when new items first need it.)
        """
        path = Path(name)
        if not path.is_dir():
            path = _downloaded(str(name), revision)
        return cls.of(Run.open(path, device))

    def push_to_hub(
        self, name: str, *, interactions: bool = False, private: bool = True, token: str | None = None
    ) -> str:
        """Save and upload with a generated model card.

        Args:
            name: `owner/name` on the hub; made where it does not exist.
            interactions: see `save_pretrained`.
            private: whether a new one is private.
            token: of the account; none: the one that `hf auth login` left.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import HfApi  # slow to import, needed by this function alone

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            self.save_pretrained(folder, interactions)
            api.create_repo(name, private=private, exist_ok=True)
            found = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload an allmrec recommender")
        return str(found)


def without_interactions(dataset: InteractionDataset) -> InteractionDataset:
    """The catalogue alone: no user, no history."""
    return replace(
        dataset,
        users=Vocabulary((), first=0, kind="user"),
        offsets=np.zeros(1, dtype=np.int64),
        item_numbers=np.zeros(0, dtype=np.int32),
        times=None if dataset.times is None else np.zeros(0, dtype=np.int64),
    )


def _downloaded(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, needed by this function alone
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFoundError(
            f"{name!r} is neither a folder nor to be had from the hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}). Check the name, or give a folder that "
            "save_pretrained wrote."
        ) from error
