"""The model card of a saved recommender, from what the run itself knows; invents nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping

from allmrec.cf.registry import backbone_kind
from allmrec.core.artifacts import read_json
from allmrec.core.errors import ArtifactError
from allmrec.core.visible import as_markdown, as_markdown_code
from allmrec.evaluation import Report, markdown
from allmrec.pipeline.run import Run

__all__ = ["model_card"]


def model_card(run: Run, frozen: Mapping[str, Mapping[str, str]], interactions: bool, added: int) -> str:
    """Markdown with the head that the hub reads.

    Args:
        run: the trained run.
        frozen: names of the frozen models.
        interactions: whether users' histories are in the folder.
        added: items that were taken up after training.
    """
    config, llm, encoder = run.config, frozen["llm"], frozen["encoder"]
    method = "`select`, a pointer head" if config.tune.select_weight else "`score`, the likelihood of titles"
    summary = read_json(run.folder.data / "manifest.json").get("summary", {})
    size = ", ".join(f"{summary[key]:,} {key}" for key in ("users", "items", "interactions") if key in summary)
    within = "Users' ids and histories are included: personal data." if interactions else "No user's data is included."
    head = {"library_name": "allmrec", "tags": ["recommendation", "allmrec"], "base_model": llm["name"]}
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        "",
        "# An allmrec recommender",
        "",
        (
            f"A {backbone_kind(config.pretrain.backbone).title} model and a frozen language model, joined by a small trained "
            "network (A-LLMRec, KDD 2024). Only that network and the collaborative-filtering model are in this folder."
        ),
        "",
        "```python",
        "import allmrec",
        "",
        'model = allmrec.ALLMRec.from_pretrained("THIS FOLDER OR NAME")',
        f"model.recommend(history={json.dumps(list(run.dataset.items.ids[:2]))}, k=10)",
        "```",
        "",
        "| part | what |",
        "|---|---|",
        f"| language model, frozen | {as_markdown(llm['name'])}, weights' fingerprint `{llm['fingerprint'][:16]}` |",
        f"| sentence encoder | {as_markdown(encoder['name'])}, fingerprint `{encoder['fingerprint'][:16]}` |",
        f"| answers by | {method} |",
        f"| trained on | {size or 'unknown'}; data {as_markdown_code(run.data_hash[:12])} |",
        f"| items added after training, from their texts | {added:,} |",
        "",
        within,
        "",
        "## Measured",
        "",
        _figures(run),
        "",
        "## Limits",
        "",
        (
            "It recommends from the catalogue it was trained on and items added by text, and repeats the preferences in its "
            "training data. The licence of the language model applies to its use."
        ),
    ]
    return "\n".join(lines) + "\n"


def _figures(run: Run) -> str:
    """The last evaluation's table."""
    try:
        report = Report.load(run.path / "report.json")
    except ArtifactError:
        return "Not evaluated."
    return markdown(report).strip()
