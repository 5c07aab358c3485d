"""Two processes with DistributedDataParallel against one process without, in float64."""

import pytest

from tests.distributed.processes import run_forked

WORKER = """
import sys
import numpy as np, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.small_models import small_model
from xt import open_image

encoder, out = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = small_model(encoder, context_options={"dropout": 0.2}).double().train()
rng = np.random.default_rng(1)
images = [open_image(rng.random((height, width, 3))) for height, width in ((150, 200), (64, 70))]
wrapped = DistributedDataParallel(model)
worst = 0.0
for keep in ("none", "all"):
    model.zero_grad()
    torch.manual_seed(rank)
    model.head.loss(wrapped([images[rank]], keep=keep, region_batch=2), torch.tensor([rank])).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    # What one process would do: the mean of both images' gradients, each with its process's random state.
    expected = [torch.zeros_like(gradient) for gradient in gradients]
    for other in range(size):
        model.zero_grad()
        torch.manual_seed(other)
        model.head.loss(model([images[other]], keep="all", region_batch=2), torch.tensor([other])).backward()
        for total, parameter in zip(expected, model.parameters(), strict=True):
            total += parameter.grad / size
    worst = max(worst, *(((a - b).norm() / b.norm()).item() for a, b in zip(gradients, expected, strict=True)))
if rank == 0:
    open(out, "w").write(str(worst))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    "encoder", ["convnext_atto", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)]
)
def test_two_processes_have_the_gradients_of_one(tmp_path, encoder):
    out = tmp_path / "worst"
    run_forked(2, "-c", WORKER, encoder, out)
    assert float(out.read_text()) < 1e-9
