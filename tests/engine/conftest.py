"""Settings of all tests with torch."""

import os

import torch

# The models here are tiny: threads that wait for each other cost more than they compute, most of all on a busy machine.
torch.set_num_threads(1)
if not torch.cuda.is_available():
    # The kernels for a GPU are interpreted, on the CPU. Read when Triton is imported.
    os.environ["TRITON_INTERPRET"] = "1"
