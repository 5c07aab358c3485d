"""Which tokens a region's decoder is given, at whatever scales."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.regions.test_pyramid_grid import grids
from xt.heads.context_map import neighbouring_tokens
from xt.regions.pyramid_grid import PyramidGrid


@settings(max_examples=40, deadline=None)
@given(grid=grids(keep=st.booleans()), side=st.integers(1, 3), reach=st.integers(0, 3))
def test_at_each_place_around_a_leaf_is_the_finest_token_that_covers_its_middle(grid, side, reach):
    """By searching all tokens for each place; where there is none, the leaf's own nearest."""
    size, leaves = grid.region_size, grid.leaves
    found = neighbouring_tokens([grid], side, reach)
    around = side + 2 * reach
    assert found.shape == (len(leaves), around**2)
    corners = np.array(list(grid))[:, :2] / size * side
    scales = grid.scales
    number_of = {tuple(place): number for number, place in enumerate(grid.places)}
    limits = np.array([grid.fine.rows, grid.fine.columns]) * side - 1
    for leaf in range(0, len(leaves), max(1, len(leaves) // 4)):
        own, scale = number_of[tuple(leaves.places[leaf])], leaves.scales[leaf]
        for place, token in zip(np.ndindex(around, around), found[leaf], strict=True):
            step = np.array(place) - reach
            middle = np.clip(corners[own] + scale * step + scale // 2, 0, limits)
            inside = ((corners <= middle) & (middle < corners + side * scales[:, None])).all(axis=1)
            holding = min(np.flatnonzero(inside), key=lambda n: scales[n], default=own)
            nearest = np.clip(step, 0, side - 1)
            if (nearest == step).all() or not inside.any():
                row, column = nearest
                holding = own
            else:
                row, column = (middle - corners[holding]) // scales[holding]
            assert token == holding * side**2 + row * side + column


@settings(max_examples=40, deadline=None)
@given(grid=grids(), side=st.integers(1, 3), reach=st.integers(0, 3))
def test_at_full_resolution_they_are_those_of_the_grid_itself(grid, side, reach):
    fine = PyramidGrid.coarsest(grid.fine, 1)
    np.testing.assert_array_equal(
        neighbouring_tokens([fine, fine], side, reach), neighbouring_tokens([grid.fine] * 2, side, reach)
    )
