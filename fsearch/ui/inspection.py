"""What a screen can know of a plan's checkpoint before anything has run: what an inspection finds.

Nothing is written down and nothing is downloaded.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from fsearch.daemon.child import spawn
from fsearch.daemon.jobs import inspect_job
from fsearch.daemon.outcomes import outcome_of
from fsearch.plan import Plan
from fsearch.search.rows import ModelFact
from fsearch.ui.errors import FAILED, UserError
from fsearch.ui.plans import checkpoint_error

_LOOK_EVERY_S = 0.05


def inspected(plan: Plan) -> ModelFact | None:
    """The checkpoint of a plan; None where it starts from scratch, or where the file is not downloaded yet.

    Raises UserError where the file cannot be used.
    """
    if plan.checkpoint is None:
        return None
    with TemporaryDirectory(prefix="fsearch-") as folder:
        log = Path(folder) / "log"
        child = spawn("inspect", inspect_job(plan.checkpoint, download=False), log)
        try:
            while not child.ended:
                child.read()
                time.sleep(_LOOK_EVERY_S)
        finally:
            child.kill()
        ending = child.close()
        said = log.read_text(errors="replace").strip().split("\n")[-1] if log.exists() else ""
    outcome = outcome_of(ending)
    if outcome.word == "completed" and ending.result is not None:
        return ModelFact(key=plan.checkpoint, **ending.result["model"])
    if outcome.word == "network_wait":
        return None
    if outcome.word == "model_refused":
        raise checkpoint_error(plan, outcome.reason)
    why = f"{outcome.word}: {outcome.reason}"
    raise UserError(f"The checkpoint could not be inspected ({why}). {said}".strip(), FAILED)
