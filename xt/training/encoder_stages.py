"""What of a region encoder's network learns, from epoch to epoch of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.trained import Schedule, Trained


def learn_most(region_encoder: RegionEncoder, schedule: Schedule) -> None:
    """Have learn what the costliest epochs of a schedule train: the largest part of the network.

    Raises:
        ConfigError: the network has not what some epoch trains.
    """

    def learning(trained: Trained) -> int:
        region_encoder.set_trained(trained)
        return sum(p.numel() for p in region_encoder.network.parameters() if p.requires_grad)

    region_encoder.set_trained(max((trained for _, trained in schedule.stages), key=learning))


class EncoderStages:
    """Follows a schedule; at first, what its first epoch trains learns.

    Raises:
        ConfigError: the network has not what some epoch trains.
    """

    def __init__(self, region_encoder: RegionEncoder, schedule: Schedule) -> None:
        self.region_encoder = region_encoder
        self.schedule = schedule
        self._now: Trained | None = None
        parameters = list(region_encoder.network.parameters())
        learning: set[int] = set()
        for _, trained in schedule.stages:
            region_encoder.set_trained(trained)
            learning |= {number for number, entry in enumerate(parameters) if entry.requires_grad}
        self._ever = [parameters[number] for number in sorted(learning)]
        self.enter(0)

    @property
    def change(self) -> bool:
        """Whether it is not the same in all epochs."""
        return len(self.schedule.stages) > 1

    def enter(self, epoch: int) -> None:
        """Have learn what this epoch trains."""
        trained = self.schedule.at(epoch)
        if trained != self._now:
            self.region_encoder.set_trained(trained)
            self._now = trained

    @contextmanager
    def all_at_once(self) -> Iterator[None]:
        """Whatever is trained in some epoch wants a gradient: for an optimiser, which is made once."""
        wanted = [parameter.requires_grad for parameter in self._ever]
        for parameter in self._ever:
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter, learns in zip(self._ever, wanted, strict=True):
                parameter.requires_grad_(learns)
