"""Settings of all tests with torch."""

import torch

# The models here are tiny: threads that wait for each other cost more than they compute, most of all on a busy machine.
torch.set_num_threads(1)
