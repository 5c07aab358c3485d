"""Weights of some channels for images of others: the first layer's filters by the channels' names, or by timm's rule.

channel   the weights know it      they do not know it
filter    its own                  the mean of those they know

All are scaled by the number of channels they know over the number there are, as timm does, so that a grey picture is
answered as strongly as before. Where no names are given, filters are repeated in their order, and one channel alone
gets their sum: timm's rule.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from xt.errors import ConfigError, DataWarning

RGB = ("red", "green", "blue")
"""The channels of weights of which nothing else is said."""


@dataclass(frozen=True)
class Bands:
    """The channels of the images, and those that the weights have been trained on.

    Attributes:
        names: of the images' channels; None where they are not named.
        count: of the images' channels.
        known: names of the weights' channels, in their order.
    """

    names: tuple[str, ...] | None
    count: int
    known: tuple[str, ...]

    def statistics(self, values: Sequence[float]) -> list[float]:
        """Of pixels, such as the mean of each channel: a known channel's own, of others the average."""
        average = sum(values) / len(values)
        if self.names is None or len(values) != len(self.known):
            return list(values) if len(values) == self.count else [average] * self.count
        own = dict(zip(self.known, values, strict=True))
        return [own.get(name, average) for name in self.names]

    def warn_of_strangers(self) -> None:
        """Say where the weights know none of the channels by name."""
        if self.names is not None and not set(self.names) & set(self.known):
            warnings.warn(
                f"the weights know the channels {', '.join(self.known)}, and the images have none of these "
                f"({', '.join(self.names)}): each gets the mean of their filters; name the channels alike in "
                "model.channels and model.weights_channels if some are the same",
                DataWarning,
                stacklevel=2,
            )

    def mix(self, base: int) -> list[list[float]]:
        """For each channel, what of each of the weights' filters its own is made of.

        Args:
            base: channels that the weights have filters for.

        Raises:
            ConfigError: another number of them is named.
        """
        scale = base / self.count
        if self.names is None:
            return _repeated(self.count, base)
        if base != len(self.known):
            raise ConfigError(
                f"the weights have filters for {base} channels, and {len(self.known)} are named "
                f"({', '.join(self.known)}): set model.weights_channels to the channels they know, in their order"
            )
        return [
            [scale * (name == other) for other in self.known] if name in self.known else [scale / base] * base
            for name in self.names
        ]


def _repeated(count: int, base: int) -> list[list[float]]:
    """By timm's rule."""
    if count == 1:
        return [[1.0] * base]
    return [[base / count * (channel % base == other) for other in range(base)] for channel in range(count)]
