"""`make bench`: run every benchmark, print the ratios, and write them with device, date and commit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from allmrec.core.artifacts import write_json
from benchmarks.about import measured_on
from benchmarks.scoring import title_scoring


def main() -> None:
    rows = [title_scoring()]
    table = Table("what", "ours", "against", "theirs", "ratio")
    for row in rows:
        table.add_row(row["what"], f"{row['ours']:.3g}", row["against"], f"{row['theirs']:.3g}", f"{row['ratio']:.2f}")
    Console().print(table)
    path = Path(__file__).parent / "results" / f"speed-{datetime.now(UTC):%Y-%m-%d}.json"
    write_json(path, measured_on("make bench") | {"results": rows})
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
