"""Small things on noise of many kinds are seen finely, with a budget and nothing else said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from xt.images import open_image
from xt.regions import by_content
from xt.regions.by_content import ByContent, Content, content_of, standing_out
from xt.regions.choice import regions_within
from xt.regions.grid import RegionGrid

SIZE, SIDE = 16, 1024
COLUMNS = np.arange(SIDE)[None, :, None]


def normal(random, channels=1):
    return random.standard_normal((SIDE, SIDE, channels))


def speckle(random, looks):
    return random.gamma(looks, 1 / looks, (SIDE, SIDE, 1)) - 1


def grain(random):
    """As of JPEG and of cameras: neighbours are alike."""
    return ndimage.gaussian_filter(normal(random), (1, 1, 0)) * 4


# Brightness without noise, and noise with its own strength: (height, width, channels), or what can be spread to it.
GROUNDS = {
    "weak": lambda random: (100.0, normal(random), 1.0),
    "strong": lambda random: (30_000.0, normal(random) * 2000, 2000.0),
    "colours": lambda random: (100.0, normal(random, 3) * 6, 6.0),
    "grain": lambda random: (100.0, grain(random) * 3, 3.0),
    "lit from one side": lambda random: (20 + 150 * COLUMNS / SIDE, normal(random) * 4, 4.0),
    "stronger in one half": lambda random: (100.0, normal(random) * np.where(COLUMNS < 500, 1, 5), 5.0),
    "speckle": lambda random: (100.0, 100 * speckle(random, 4), 60.0),
    "speckle of one look": lambda random: (100.0, 100 * speckle(random, 1), 140.0),
    "speckle on land and sea": lambda random: (
        np.where(COLUMNS < 600, 20.0, 300.0),
        np.where(COLUMNS < 600, 20.0, 300.0) * speckle(random, 8),
        110.0,
    ),
    "speckle, lit from one side": lambda random: (
        20 + 150 * COLUMNS / SIDE,
        (20 + 150 * COLUMNS / SIDE) * speckle(random, 8),
        60.0,
    ),
}
# Top left pixels of what is looked for, of 6 pixels a side.
THINGS = np.array([(100, 60), (485, 700), (700, 333), (901, 900), (333, 489), (16, 1010)])


def noisy(kind, seed=0, things=THINGS):
    random = np.random.default_rng(seed)
    base, noise, strength = GROUNDS[kind](random)
    pixels = base + noise
    for y, x in things:
        pixels[y : y + 6, x : x + 6] += 8 * strength * (random.random((6, 6, 1)) < 0.6)
    return pixels


def seen_finely(grid):
    return {(row, column) for scale, row, column in grid.places.tolist() if scale == 1}


def regions_of(things):
    return {(y // SIZE, x // SIZE) for y, x in things + 3}


def chosen(pixels, foreground=None, nodata=None, **options):
    with open_image(pixels, nodata=nodata) as image:
        fine = RegionGrid.from_image(image, SIZE, foreground=foreground)
        return ByContent(**({"levels": 4, "budget": 0.08} | options)).first(image, fine), fine


@pytest.mark.parametrize("kind", GROUNDS)
def test_small_things_on_noise_are_seen_finely(kind):
    grid, fine = chosen(noisy(kind).astype(np.float32))
    assert grid.is_partition
    assert seen_finely(grid) >= regions_of(THINGS)
    # What is left is the budget's, too: by then nothing stands out any more.
    most = regions_within(0.08, fine)
    assert most - 3 <= len(grid) <= most


@pytest.mark.parametrize("kind", GROUNDS)
def test_nothing_of_noise_alone_stands_out(kind):
    pixels = noisy(kind, seed=1, things=()).astype(np.float32)
    with open_image(pixels) as image:
        content = content_of(image, RegionGrid.from_image(image, SIZE))
    assert standing_out(content).sum() < 0.005 * content.energy.sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float64])
def test_noise_of_any_type_of_pixels(dtype):
    pixels = noisy("weak")
    whole = pixels if dtype == np.float64 else pixels.round().clip(0, 255)
    assert seen_finely(chosen(whole.astype(dtype))[0]) >= regions_of(THINGS)


@pytest.mark.parametrize("missing", [0.0, float("nan")])
def test_small_things_in_a_turned_swath_of_speckle(missing):
    """Half of the image is nodata; what lies at the edge of the data is found as what lies inside is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    outside = abs((y - 512) * 0.9 + (x - 512) * 0.43) > 280
    things = np.array([(512, 512), (780, 40), (300, 300), (512, 700), (270, 980)])
    pixels = noisy("speckle", things=things)
    pixels[outside] = missing
    at_the_edge = (ndimage.binary_dilation(outside, iterations=20)[things[:, 0], things[:, 1]]).sum()
    assert at_the_edge >= 1
    grid, _ = chosen(pixels.astype(np.float32), nodata=missing)
    assert seen_finely(grid) >= regions_of(things)


def test_ground_out_of_a_foreground_is_ground_and_nothing_to_be_seen():
    foreground = np.zeros((64, 64), bool)
    foreground[:, 20:44] = True
    # A fifth of the foreground.
    grid, _ = chosen(noisy("speckle"), foreground=foreground, budget=0.2)
    inside = {(y, x) for y, x in regions_of(THINGS) if foreground[y, x]}
    assert len(inside) == 3
    assert seen_finely(grid) >= inside


def lost(pixels, grid):
    """How much smoother what is seen is than the image."""
    scales, total = grid.scales[grid.covering()], 0.0
    for scale in (2, 4):
        blocks = pixels[..., 0].reshape(SIDE // scale, scale, SIDE // scale, scale)
        error = ((blocks - blocks.mean(axis=(1, 3), keepdims=True)) ** 2).reshape(64, SIZE, 64, SIZE)
        total += error.sum(axis=(1, 3))[scales == scale].sum()
    return total


@pytest.mark.parametrize(
    ("amounts", "budgets"),
    [
        # As of woods: hardly anything stands out.
        (lambda random, shape: random.uniform(0.1, 1, shape), (0.15, 0.3, 0.5)),
        # A hundredth does: it is opened first, and less than what a small budget has is left for all the rest.
        (lambda random, shape: np.exp(random.normal(0, 0.4, shape)), (0.3, 0.5)),
    ],
)
def test_what_is_full_of_structure_is_looked_at_as_by_content_alone(amounts, budgets, monkeypatch):
    """Tissue, woods, towns: much of it differs from place to place, and there is no ground."""
    random = np.random.default_rng(0)
    amount = ndimage.zoom(amounts(random, (33, 33)), SIDE / 33, order=1)[:SIDE, :SIDE, None]
    pixels = (100 + 70 * amount * ndimage.gaussian_filter(normal(random), (2, 2, 0))).astype(np.float32)
    found = [lost(pixels, chosen(pixels, levels=3, budget=budget)[0]) for budget in budgets]
    monkeypatch.setattr(by_content, "standing_out", lambda content: content.energy)
    alone = [lost(pixels, chosen(pixels, levels=3, budget=budget)[0]) for budget in budgets]
    assert np.all(np.array(found) <= 1.05 * np.array(alone)), (found, alone)


def test_what_is_plain_stays_coarse_beside_noise():
    pixels = noisy("weak")
    pixels[:, :512] = 100
    grid, _ = chosen(pixels.astype(np.float32), budget=1.0)
    assert set(grid.scales[grid.origins[:, 1] < 384]) == {8}


@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.3e11])
def test_where_all_is_alike_nothing_stands_out(value):
    share = np.ones((40, 30))
    share[:, -1], share[-1] = 0.3, 0.7
    assert not standing_out(Content(value * share, share)).any()


def test_a_large_thing_is_ground_only_inside():
    """What is larger than the window is its own ground, but what lies in it is seen."""
    random = np.random.default_rng(0)
    energy = random.normal(1, 0.1, (60, 60))
    energy[10:40, 10:40] *= 50
    energy[25, 25] *= 4
    beyond = standing_out(Content(energy, np.ones_like(energy)))
    assert set(map(tuple, np.argwhere(beyond > 0))) == {(25, 25)}


def plainly(content, window):
    """`standing_out`, region by region."""
    energy, share = content
    known, reach = share >= 0.25, window // 2
    density = {place: energy[place] / share[place] for place in np.ndindex(energy.shape) if known[place]}

    def around(row, column):
        return [(y, x) for y, x in density if abs(y - row) <= reach and abs(x - column) <= reach]

    least = {place: min(density[other] for other in around(*place)) for place in density}
    ground = {
        place: max((least[other] for other in around(*place)), default=0)
        for place in np.ndindex(energy.shape)
    }

    def limit(values):
        low, middle = np.quantile(values, [0.05, 0.5]) if values else (1, 1)
        return low / middle >= 0.5, 1.000001 * (middle + 4 * (middle - low))

    even, times = limit(
        [density[place] / ground[place] for place in density if density[place] and ground[place]]
    )
    if not even:
        times = limit([value for value in density.values() if value])[1]
        ground = dict.fromkeys(ground, 1)
    beyond = [max(0, energy[place] - times * share[place] * ground[place]) for place in ground]
    return np.reshape(beyond, energy.shape)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    looks=st.sampled_from([1, 60]),
)
def test_standing_out_as_its_plain_twin(seed, rows, columns, looks):
    random = np.random.default_rng(seed)
    share = random.choice([0, 0.1, 0.25, 0.6, 1], (rows, columns), p=[0.2, 0.1, 0.1, 0.1, 0.5])
    # Of few of them all may be, so that ground is even, or hardly any is.
    content = Content(
        random.gamma(looks, 1, (rows, columns)) * share * (random.random(share.shape) < 0.9), share
    )
    with pytest.MonkeyPatch.context() as patch:
        for window in (3, 17):
            patch.setattr(by_content, "_WINDOW", window)
            np.testing.assert_allclose(standing_out(content), plainly(content, window), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(1, 4),
    budget=st.integers(1, 400),
    keep=st.booleans(),
    unit=st.sampled_from([2.0**-10, 2.0, 2.0**16]),
)
def test_of_any_content_a_budget_is_kept_and_the_unit_makes_no_difference(seed, levels, budget, keep, unit):
    random = np.random.default_rng(seed)
    rows, columns = random.integers(1, 20, 2)
    fine = RegionGrid(height=int(rows) * SIZE, width=int(columns) * SIZE, region_size=SIZE)
    share = random.choice([0, 0.5, 1], (rows, columns))
    energy = random.exponential(1, (rows, columns)) ** 2 * share * random.choice([0, 1], (rows, columns))
    choice = ByContent(levels=levels, budget=budget, keep_coarse=keep)
    grid = choice.openings(Content(energy, share), fine).within(budget)
    assert grid.is_partition or keep
    assert grid.leaves.is_partition
    assert len(grid) <= max(budget, len(choice.openings(Content(energy * 0, share), fine).coarsest))
    again = choice.openings(Content(energy * unit, share), fine).within(budget)
    assert (grid.places == again.places).all()
    # Nothing is opened where there is nothing.
    for scale, row, column in grid.leaves.places[grid.leaves.scales < grid.scales.max()].tolist():
        parent = np.s_[row // 2 * 2 * scale : (row // 2 + 1) * 2 * scale]
        assert energy[parent, column // 2 * 2 * scale : (column // 2 + 1) * 2 * scale].sum() > 0
