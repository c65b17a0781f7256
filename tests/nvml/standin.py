"""A machine with GPUs, as far as NVML says so: a library of its own in the place of the driver's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

FIRST, SECOND = "GPU-1aaa0000-0000-0000-0000-000000000001", "GPU-2bbb0000-0000-0000-0000-000000000002"
MODEL = "NVIDIA Stand-in 4090"


def gpu(uuid: str = FIRST, *, used_mib: float = 500, power_w: float = 200, **more: Any) -> str:
    """The lines about one GPU; `processes` are pairs of pid and MiB."""
    processes = more.pop("processes", ())
    values = {
        "name": MODEL,
        "capability": "8 9",
        "total_mib": 24000,
        "used_mib": used_mib,
        "utilisation": 90,
        "power_w": power_w,
        "temperature_c": 60,
        **more,
    }
    lines = [f"gpu {uuid}", *(f"{word} {value}" for word, value in values.items())]
    return "\n".join([*lines, *(f"process {pid} {mib}" for pid, mib in processes)]) + "\n"


@dataclass(frozen=True)
class StandIn:
    """A compiled stand-in and the file that its answers come from."""

    folder: Path

    @property
    def answers(self) -> Path:
        return self.folder / "answers"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the stand-in instead of a driver."""
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("LD_LIBRARY_PATH"))))
        return {"LD_LIBRARY_PATH": path, "FSEARCH_TEST_NVML": str(self.answers)}

    def says(self, text: str) -> None:
        """From now on, in one step."""
        new = self.folder / "answers.new"
        new.write_text(text)
        new.replace(self.answers)

    def ask(self, code: str, **environment: str) -> Any:
        """What a fresh process puts into `answer`."""
        ask = f"import json\n{code}\nprint(json.dumps(answer))"
        done = subprocess.run(
            [sys.executable, "-c", ask],
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def compiled(folder: Path) -> Path:
    """The folder of the library, which has the name that the driver's has."""
    compiler = shutil.which("cc") or shutil.which("gcc") or "g++"
    source, library = Path(__file__).with_name("standin.c"), folder / "libnvidia-ml.so.1"
    command = [compiler, "-x", "c", "-std=gnu11", "-O1", "-shared", "-fPIC"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return folder
