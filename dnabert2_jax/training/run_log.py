"""metrics.jsonl: one JSON object per line, appended as a run goes, cut back where a run resumes."""

import json
from pathlib import Path
from typing import Any

from dnabert2_jax.files import atomic_file


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one line; a reader never sees half of it, and a crash leaves at most one broken last line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_back(path: Path, step: int) -> None:
    """Removes the lines of steps after `step`, which a resumed run will write again."""
    kept = [row for row in read_rows(path) if row["step"] <= step]
    with atomic_file(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in kept)
