"""What do skip connections buy? Networks, metrics and figures for three notebooks, and what runs them."""

from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1]
ROOT = _PROJECT if (_PROJECT / "pyproject.toml").exists() else Path.cwd()  # holds data/ and reports/
