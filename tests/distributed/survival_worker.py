"""One of the processes of `test_survival`: the loss of all processes' images, and its gradients, against one process.

Arguments: ranks that share out the regions of an image, file to write the largest difference to.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.region_parallel_worker import Loss
from tests.model.test_dense import make_image, make_model

# Ties and ends of observation; the processes have different numbers of images.
TARGETS = torch.tensor([[3.0, 1], [1, 1], [2, 0], [3, 1], [5, 0]])
SIZES = [(64, 64), (100, 130), (70, 64), (64, 150), (130, 70)]


def main(region_ranks: int, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    shape = (dist.get_world_size() // region_ranks, region_ranks)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "region"))
    groups = [[0, 1, 2], [3, 4]] if shape[0] == 2 else [[0, 1, 2, 3, 4]]
    model = make_model(head="survival", num_classes=1).eval()
    images = [make_image(*size) for size in SIZES]
    own = groups[mesh["data"].get_local_rank()]
    # Kept: its hooks bring the gradients together.
    wrapped = DistributedDataParallel(Loss(model))
    loss = wrapped(
        [images[place] for place in own],
        TARGETS[own],
        region_parallel=mesh["region"] if region_ranks > 1 else None,
        data_parallel=mesh["data"],
        region_batch=2,
    )
    loss.backward()
    found = [parameter.grad for parameter in model.parameters()]
    one = make_model(head="survival", num_classes=1).eval()
    alone = one.loss(images, TARGETS, region_batch=2)
    alone.backward()
    expected = [parameter.grad for parameter in one.parameters()]
    # Beside the largest: what moves all risks alike, such as the bias of a norm, has none.
    largest = max(float(gradient.norm()) for gradient in expected)
    worst = [abs(float((loss - alone).detach() / alone.detach()))]
    worst += [float((a - b).norm()) / largest for a, b in zip(found, expected, strict=True)]
    result = torch.tensor(max(worst))
    dist.all_reduce(result, dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        out.write_text(str(float(result)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
