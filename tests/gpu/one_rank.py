"""Run as a process: a region-parallel step of one rank against an ordinary one, by NCCL on CUDA and gloo on the CPU."""

import os
import sys
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import xt
from tests.small_models import small_model
from xt.streaming.parallel import _draw_alike


def gradients(device: str, **streaming: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = small_model("convnext_atto").double().train().to(device)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    torch.manual_seed(3)
    model.loss(
        xt.open_image(pixels), torch.tensor([1], device=device), region_batch=4, **streaming
    ).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def main(device: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2], "RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    mesh = init_device_mesh(device, (1,), mesh_dim_names=("region",))["region"]
    state = torch.rand(3, device=device)
    _draw_alike(mesh.get_group(), torch.device(f"{device}:0" if device == "cuda" else device))
    assert not torch.equal(state, torch.rand(3, device=device))
    expected = gradients(device)
    torch.testing.assert_close(gradients(device, region_parallel=mesh), expected, rtol=1e-9, atol=1e-12)
    dist.destroy_process_group()
    print("the same")


if __name__ == "__main__":
    main(sys.argv[1])
