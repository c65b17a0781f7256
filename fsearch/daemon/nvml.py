"""What NVML, the library of NVIDIA's driver, says of the GPUs of this machine.

It needs no CUDA and no torch, and a call takes about a millisecond. What a GPU cannot say is None.

Deliberately not here: which GPU is used, and what follows from a reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_MIB = 2**20


class NvmlError(Exception):
    """NVML does not answer, with what it said. `absent`: no driver; `lost`: the GPU is gone until a reset."""

    def __init__(self, said: str, *, absent: bool = False, lost: bool = False) -> None:
        super().__init__(said)
        self.absent, self.lost = absent, lost


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine."""

    uuid: str  # "GPU-...", the same for ever
    model: str
    capability: tuple[int, int]  # CUDA's, such as (9, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a GPU."""

    utilisation: float | None = None  # 0..1, the share of the last moment in which a kernel ran
    used_mib: float | None = None  # by everybody, the driver included
    free_mib: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    energy_mj: float | None = None  # since the driver was loaded
    processes: dict[int, float | None] = field(default_factory=dict)  # pid -> MiB; pids of the host


def gpus() -> list[Gpu]:
    """All GPUs in the order of nvidia-smi, which is that of the PCI bus.

    Raises NvmlError.
    """
    with _nvml() as nvml:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [
            Gpu(
                uuid=nvml.nvmlDeviceGetUUID(handle),
                model=nvml.nvmlDeviceGetName(handle),
                capability=nvml.nvmlDeviceGetCudaComputeCapability(handle),
            )
            for handle in handles
        ]


def driver() -> str:
    """The driver's version and the newest CUDA that it runs, for people.

    Raises NvmlError.
    """
    with _nvml() as nvml:
        cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
        return f"{nvml.nvmlSystemGetDriverVersion()}, runs CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"


def read(uuid: str) -> Reading:
    """Look at a GPU now.

    Raises NvmlError.
    """
    with _nvml() as nvml:
        gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)

        def said(question: Callable[..., T], *more: int) -> T | None:
            try:
                return question(gpu, *more)
            except (
                nvml.NVMLError_NotSupported,
                nvml.NVMLError_NoPermission,
                nvml.NVMLError_FunctionNotFound,
            ):
                return None

        memory = said(nvml.nvmlDeviceGetMemoryInfo)
        rates = said(nvml.nvmlDeviceGetUtilizationRates)
        power_mw = said(nvml.nvmlDeviceGetPowerUsage)
        return Reading(
            utilisation=rates and rates.gpu / 100,
            used_mib=memory and memory.used / _MIB,
            free_mib=memory and memory.free / _MIB,
            power_w=None if power_mw is None else power_mw / 1000,
            temperature_c=said(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            energy_mj=said(nvml.nvmlDeviceGetTotalEnergyConsumption),
            processes={
                process.pid: None if process.usedGpuMemory is None else process.usedGpuMemory / _MIB
                for process in said(nvml.nvmlDeviceGetComputeRunningProcesses) or ()
            },
        )


_opened = False


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The library, opened once and, when it has failed, anew: so a driver that comes back answers again.

    It is not closed in between: a GPU that nobody has open may lose its energy counter.
    """
    import pynvml

    global _opened
    try:
        if not _opened:
            pynvml.nvmlInit()
            _opened = True
        yield pynvml
    except pynvml.NVMLError as error:
        if _opened:
            _opened = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        lost = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)
        raise NvmlError(str(error), absent=error.value in absent, lost=error.value in lost) from error
