import torch

from xt.regions.halo import cropped


def test_so_many_cells_are_cut_off_every_side() -> None:
    maps = torch.arange(2 * 3 * 6 * 8).view(2, 3, 6, 8)
    assert torch.equal(cropped(maps, 2), maps[:, :, 2:4, 2:6])
    assert torch.equal(cropped(maps[0], 1), maps[0, :, 1:5, 1:7])


def test_without_a_halo_they_are_what_they_were() -> None:
    maps = torch.rand(1, 2, 3, 4)
    assert torch.equal(cropped(maps, 0), maps)
