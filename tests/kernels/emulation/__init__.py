"""CUDA kernels on a CPU.

`library` compiles a .cu file with the emulated cuda_prims.h of this folder and loads it; the other modules
call what csrc/ has in such files. What the emulation watches, and what it cannot show, is at the top of
cuda_prims.h.
"""
