"""fredzzp/contact_data: the same four columns, one more, and other names of the splits."""

from __future__ import annotations

from typing import Any

from tests.tables import protein_contact

REPO, CONFIG = "fredzzp/contact_data", None


def splits() -> dict[str, list[dict[str, Any]]]:
    """The rows of the other data set."""
    rows = protein_contact.splits()
    return {
        name: [row | {"metadata": "{}"} for row in rows[of]]
        for name, of in {"train": "train", "validation": "valid", "test": "test"}.items()
    }
