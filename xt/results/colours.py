"""One colour for each class, the same in masks, outlines and pictures."""

import colorsys

Colour = tuple[int, int, int]

# Told apart also by the colour-blind (Okabe and Ito, 2008), the strongest first.
_FIRST = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_BACKGROUND = (0, 0, 0)
# Hues so far apart that no two of a hundred are close: turns of the golden angle.
_TURN = 0.381966


def class_colours(num_classes: int) -> list[Colour]:
    """Red, green and blue, 0 to 255, of each class; class 0, by habit the background, is black."""
    further = range(num_classes - 1 - len(_FIRST))
    return [_BACKGROUND, *_FIRST[: num_classes - 1], *(_turned(number) for number in further)]


def point_colours(num_classes: int) -> list[Colour]:
    """As `class_colours`, for points, whose class 0 is as good as any other."""
    return class_colours(num_classes + 1)[1:]


def _turned(number: int) -> Colour:
    hue, bright = (0.05 + number * _TURN) % 1.0, number % 2
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 - 0.25 * bright, 0.65 + 0.3 * bright)
    return round(255 * red), round(255 * green), round(255 * blue)
