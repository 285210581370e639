"""The skip-sampled scan: which pixels each direction reads, and the sum written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from clinicalfmamba_nets.blocks.dynamic_fusion import DescriptiveConv
from clinicalfmamba_nets.blocks.efficient_scan import EfficientScan, skip_merged, skip_sampled
from clinicalfmamba_nets.ops import selective_scan


def test_each_direction_reads_its_own_grid():
    image = torch.arange(24).view(1, 4, 6, 1)
    read = [grid.flatten().tolist() for grid in skip_sampled(image)]
    assert read == [[0, 2, 4, 12, 14, 16], [6, 18, 8, 20, 10, 22], [1, 3, 5, 13, 15, 17], [7, 19, 9, 21, 11, 23]]
    assert torch.equal(skip_merged(skip_sampled(image)[:, 0], 4, 6), image)


def test_the_scan_is_that_of_each_grid_alone():
    torch.manual_seed(0)
    layer, image = EfficientScan(8, d_model=32, d_state=8).double(), torch.rand(2, 4, 6, 8).double()
    grids = []
    for k, u in enumerate(skip_sampled(image)[:, 0]):
        delta, B, C = (u @ layer.x_proj[k, 0].T).split([2, 8, 8], -1)
        delta, A = delta @ layer.dt_weight[k, 0].T, -torch.exp(layer.A_log[k, 0])
        u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
        bias = layer.dt_bias[k, 0]
        grids.append(selective_scan(u, delta, A, B, C, layer.D[k, 0], None, bias, True, backend="reference"))
    expected = skip_merged(torch.stack(grids).transpose(2, 3), 4, 6)
    torch.testing.assert_close(layer(image), layer.norm(expected))


def test_the_descriptive_kernel_written_out():
    torch.manual_seed(0)
    layer, image = DescriptiveConv(3), torch.rand(1, 5, 6, 3)
    with torch.no_grad():
        layer.mask.uniform_()
    kernel = layer.weight.detach().clone()
    for out in range(3):
        for entry in range(3):
            total = layer.weight[out, entry].sum()
            kernel[out, entry, 1, 1] *= (1 - layer.theta * layer.mask[out, entry] * total).item()
    expected = F.conv2d(image.permute(0, 3, 1, 2), kernel, padding=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(image), expected)
