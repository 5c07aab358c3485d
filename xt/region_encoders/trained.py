"""What of a region encoder's network is trained, and from which epoch on, as a configuration says it.

all            every weight
none           none: the network stays as it is
last:N         its last N layers (blocks)
lora:RANK      low-rank matrices beside its frozen weights (Hu et al. 2021, arXiv:2106.09685)
dora:RANK      likewise, with the weights' lengths apart (Liu et al. 2024, arXiv:2402.09353)
norm_and_bias  norms, biases and scales: whatever is a vector (Ben Zaken et al. 2021, arXiv:2106.10199)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xt.errors import ConfigError

_PLAIN = ("all", "none", "norm_and_bias")
_NUMBERED = ("last", "lora", "dora")
_ADAPTERS = ("lora", "dora")
_MOST = 2**12
WORDS = ", ".join([*_PLAIN, "last:N", "lora:RANK", "dora:RANK"])
"""All there are, for messages."""


class Trained(NamedTuple):
    """What is trained.

    Attributes:
        kind: one of those above, without the number.
        number: of layers, or the rank; 0 where there is none.
    """

    kind: str
    number: int = 0

    @property
    def is_adapter(self) -> bool:
        return self.kind in _ADAPTERS

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}" if self.number else self.kind


def parse_trained(text: object, name: str = "encoder_train") -> Trained:
    """What a text says is trained.

    Args:
        name: of the setting, for messages.

    Raises:
        ConfigError: it is none of these.
    """
    kind, colon, number = str(text).partition(":")
    if kind in _PLAIN and not colon:
        return Trained(kind)
    if kind in _NUMBERED and number.isascii() and number.isdigit() and 1 <= int(number) <= _MOST:
        return Trained(kind, int(number))
    raise ConfigError(f"{name} must be one of {WORDS}, with numbers from 1 to {_MOST}, got {text!r}")


@dataclass(frozen=True)
class Schedule:
    """What is trained in which epoch.

    Attributes:
        stages: the first epoch of each, counted from 0 and rising, and what is trained from there on.
    """

    stages: tuple[tuple[int, Trained], ...]

    @classmethod
    def parse(cls, value: str | Mapping[int, str], name: str = "optim.encoder_train") -> "Schedule":
        """Of a configuration: one for all epochs, or epochs with what begins there, as {0: "none", 5: "last:4"}.

        Raises:
            ConfigError: it does not begin at epoch 0, something is none of those, or there are two adapters.
        """
        if not isinstance(value, Mapping):
            return cls(((0, parse_trained(value, name)),))
        if not value or min(value) != 0:
            raise ConfigError(
                f"{name} must say what is trained from epoch 0 on, such as {{0: none, 5: last:4}}, got {dict(value)}"
            )
        stages = tuple((epoch, parse_trained(value[epoch], name)) for epoch in sorted(value))
        adapters = {trained for _, trained in stages if trained.is_adapter}
        if len(adapters) > 1:
            raise ConfigError(
                f"{name} has the adapters {' and '.join(sorted(map(str, adapters)))}: a network has one"
            )
        return cls(stages)

    @property
    def adapter(self) -> Trained | None:
        """The one that is trained in some epoch."""
        return next((trained for _, trained in self.stages if trained.is_adapter), None)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of the network is ever trained."""
        return all(trained.kind == "none" for _, trained in self.stages)

    @property
    def is_all(self) -> bool:
        """Whether everything is trained from the beginning to the end."""
        return all(trained.kind == "all" for _, trained in self.stages)

    def at(self, epoch: int) -> Trained:
        """What is trained in an epoch."""
        return next(trained for first, trained in reversed(self.stages) if first <= epoch)
