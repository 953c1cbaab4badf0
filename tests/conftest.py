"""For all tests: what is read when a library is imported, or counts in every folder."""

import os
import signal

import torch
from hypothesis import settings

# The models here are tiny: threads that wait for each other cost more than they compute, most of all on a busy machine.
torch.set_num_threads(1)
if not torch.cuda.is_available():
    # The kernels for a GPU are interpreted, on the CPU. Read when Triton is imported, whichever test does it first.
    os.environ["TRITON_INTERPRET"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it leaves in the background; the commands that the tests start would hear no Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Speed is measured in `bench/` alone: no example of hypothesis is against the clock.
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")
