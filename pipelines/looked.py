"""What was found when the published warehouse was last looked at, kept beside it."""

import json
import os
from pathlib import Path

import polars as pl

from pipelines.quality import RESULT_SCHEMA


def remembered(warehouse: Path) -> pl.DataFrame | None:
    """``QualityResult`` rows without ``input_id`` of this very file; None where nobody has looked at it."""
    try:
        seen = json.loads(_kept(warehouse).read_text("utf-8"))
        if seen["file"] == _about(warehouse):
            return pl.DataFrame(seen["results"], schema=RESULT_SCHEMA)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None


def remember(warehouse: Path, results: pl.DataFrame) -> None:
    """Keep what was found of the file as it is."""
    kept = _kept(warehouse)
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    part.write_text(json.dumps({"file": _about(warehouse), "results": results.to_dicts()}), "utf-8")
    part.replace(kept)


def _kept(warehouse: Path) -> Path:
    return warehouse.with_name(f".{warehouse.name}.checked.json")


def _about(warehouse: Path) -> list[int]:
    about = warehouse.stat()
    return [about.st_ino, about.st_size, about.st_mtime_ns]
