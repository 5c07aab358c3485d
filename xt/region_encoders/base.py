"""What every region encoder is: pixels of a region -> feature maps -> tokens.

The local expert of nested tokenization (xT, arXiv:2403.01915, section 3.2): it sees one region at a time, at full
resolution, and hands on a few vectors.

    pixels  --scaling-->  network  -->  feature maps, finest first  --read out-->  features  --project-->  tokens
                                  -->  class token, if it has one  ---'

The network is what a subclass brings; all else is the same for all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from xt.errors import ConfigError, ShapeError
from xt.region_encoders.adapters import add_adapter, choose_trained, still_parts_evaluate
from xt.region_encoders.bands import RGB, Bands
from xt.region_encoders.first_layer import Naming
from xt.region_encoders.fitting import first_number, look, maps_of_a_region, strides_of
from xt.region_encoders.layers import NetworkParameter, in_order
from xt.region_encoders.readout import CLASS, CLASS_AND_MEAN, READOUTS, pooling_of, pooling_to, side_of_tokens
from xt.region_encoders.scaling import PixelScaling
from xt.region_encoders.trained import Trained
from xt.region_encoders.weight_types import coded_as, lay
from xt.regions.halo import cropped

# Of a whole encoder: the weights that its features depend on, see `RegionEncoder.feature_weights`.
_OF_FEATURES = ("backbone.", "scaling.")


class RegionEncoder(nn.Module, ABC):
    """Pixels of regions -> feature maps and tokens.

    A subclass calls `super().__init__`, makes its network and hands it to `set_network`; it says in `as_maps` how the
    network's result becomes maps, and may say more in `class_token`, `layers` and `settings`.

    Args:
        name: what the network is called, in messages and stores.
        region_size: side of a region S, in pixels.
        halo: pixels that the network sees around a region on every side; a multiple of its last stride. Tokens are of
            the region alone.
        in_channels: image channels C.
        pixel_mean: in unit scale (see `xt.region_encoders.scaling`), one value a channel.
        pixel_std: likewise, positive.

    Attributes:
        feature_dims: channels of each map.
        strides: side of a cell of each map, in pixels.
        tokens_per_side: a region yields this number squared of tokens.
        pooling: how cells of the last map become tokens.
        adapter: what stands beside the network's weights, such as "lora:8"; None for nothing.
        readout: what a token is made of, see `xt.region_encoders.readout`.
        origin: where the network's weights are from, as `xt.region_encoders.origin` says it; None for nowhere.
        takes_pixels: whether it has a network at all; where not, images have been encoded before.
        made_for: the region size that the network is known to take; None where none is.
        registered_as: the name under which it can be made again; None for one that only its maker can make.
        bands: the channels it sees, and those that weights from elsewhere know.
    """

    takes_pixels: ClassVar[bool] = True
    feature_dims: list[int]
    strides: list[int]
    tokens_per_side: int
    pooling: str
    readout: str
    origin: Mapping[str, Any] | None = None
    registered_as: str | None = None
    adapter: str | None = None
    bands: Bands
    made_for: int | None = None

    def __init__(
        self,
        name: str,
        *,
        region_size: int,
        halo: int = 0,
        in_channels: int = 3,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.name = name
        self.region_size = region_size
        self.halo = halo
        self.in_channels = in_channels
        self.bands = Bands(None, in_channels, RGB)
        self.scaling = PixelScaling(pixel_mean, pixel_std)
        if len(self.scaling.mean) != in_channels:
            raise ConfigError(
                f"pixel_mean and pixel_std need one value for each of the {in_channels} channels, got "
                f"{len(self.scaling.mean)}"
            )

    def set_network(
        self,
        network: nn.Module,
        dim: int,
        *,
        strides: Sequence[int] | None = None,
        tokens_per_region: int | None = None,
        pooling: str | None = None,
        readout: str | None = None,
    ) -> None:
        """Complete the encoder: look at what the network makes of a region, and put the way to the tokens behind it.

        Args:
            network: scaled pixels (regions, C, W, W) -> what `as_maps` takes, with W = S + 2 halo.
            dim: width of the tokens, D.
            strides: of the maps; None where their sides tell.
            tokens_per_region: a square number N; None for one token per cell of the last feature map, or for one alone
                where the readout takes the class token.
            pooling: "max" or "mean", from the last feature map to the tokens; None for what the readout says.
            readout: what a token is made of, one of `READOUTS`; None for "patches".

        Raises:
            ConfigError: the settings do not fit the network, or it would not see all pixels of such regions.
        """
        # Under this name the weights have always been stored.
        self.backbone = network
        self.memory_format = _memory_format(network)
        network.to(memory_format=self.memory_format)
        if strides is not None:
            self.strides = list(strides)
        self.readout = readout or READOUTS[0]
        if self.readout not in READOUTS:
            raise ConfigError(f"readout must be one of {', '.join(READOUTS)}, got {self.readout!r}")
        maps, class_token = maps_of_a_region(self)
        self.feature_dims = [features.shape[1] for features in maps]
        self._sides = [features.shape[-1] for features in maps]
        self.strides = strides_of(self, maps) if strides is None else self.strides
        side = maps[-1].shape[-1] - 2 * self._halo_cells()
        self._check_readout(class_token, tokens_per_region)
        if self.readout in (CLASS, CLASS_AND_MEAN):
            tokens_per_region = tokens_per_region or 1
        self.tokens_per_side = side_of_tokens(tokens_per_region, side, self.name, self.region_size)
        self.pooling = pooling_of(self.readout, pooling)
        self.pool = pooling_to(self.tokens_per_side, side, self.pooling)
        self.norm = nn.LayerNorm(self.feature_width)
        self.projection = nn.Linear(self.feature_width, dim)
        like = next(network.parameters(), self.projection.weight)
        for part in (self.scaling, self.norm, self.projection):
            part.to(like.device, like.dtype)

    @abstractmethod
    def as_maps(self, result: Any) -> list[Tensor]:
        """What the network has made -> its feature maps, finest first: (regions, channels, side, side) each."""

    def class_token(self, result: Any) -> Tensor | None:
        """What the network has made -> what it says of a region as a whole, (regions, channels of the last map)."""
        return None

    def after_pooling(self, features: Tensor) -> Tensor:
        """What the network itself does with pooled vectors (regions, N, channels), such as a norm; nothing here."""
        return features

    @property
    def network(self) -> nn.Module:
        """Scaled pixels -> what `as_maps` takes: what may be pretrained, compiled, or kept as it is."""
        return self.backbone

    @property
    def network_learns(self) -> bool:
        """Whether any weight of the network does."""
        return any(parameter.requires_grad for parameter in self.network.parameters())

    def freeze(self) -> None:
        """Keep the network's weights and statistics as they are; what is behind it goes on learning."""
        self.set_trained(Trained("none"))

    def set_trained(self, trained: Trained) -> None:
        """Have a part of the network learn, and all else of it stay as it is and compute as in evaluation.

        Raises:
            ConfigError: the network has no such part, or its weights lie in a type that none can learn in.
        """
        coded = coded_as(self.network)
        if coded is not None and trained.kind != "none" and not trained.is_adapter:
            raise ConfigError(
                f"the weights of {self.name} lie in {coded}, which is too coarse for weights that are trained: train "
                f"none or lora:RANK, got {trained}"
            )
        # Only what learns has a layer.
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        choose_trained(self.network, trained, self.layers(), self.name)
        self.train(self.training)

    def adapt(self, adapter: Trained) -> None:
        """Put low-rank matrices beside the network's weights, which alone learn from now on; see `add_adapter`."""
        add_adapter(self.network, adapter, lambda: look(self, self.network, self.window_size), self.name)
        self.adapter = str(adapter)
        self.set_trained(adapter)

    def lay_weights_in(self, dtype: str) -> None:
        """Freeze the network with its weights in another type, see `xt.region_encoders.weight_types`; maps and tokens
        stay in the one that they are in.

        Raises:
            ConfigError: they lie in another one already, the network has none that could, or an adapter stands beside
                them: it is put in behind this, as what learns is not made coarser.
        """
        if self.encoder_dtype != "float32" or self.adapter is not None:
            what = self.adapter or f"weights in {self.encoder_dtype}"
            raise ConfigError(
                f"{self.name} has {what} already: lay weights that are as they were made in {dtype}"
            )
        lay(self.network, dtype, self.name)
        self.freeze()

    def train(self, mode: bool = True) -> Self:
        """As of every module; but what does not learn draws nothing and counts no statistics."""
        super().train(mode)
        if mode and hasattr(self, "backbone"):
            still_parts_evaluate(self.network)
        return self

    def layers(self) -> list[NetworkParameter]:
        """The parameters of the network that learn, with how deep they lie: for rates that decay layer by layer."""
        return in_order(self.network)

    def namings(self) -> list[Naming]:
        """The ways in which weights from elsewhere may be named; here as in the network alone."""
        return [lambda tensors, bands: tensors]

    def settings(self) -> dict[str, Any]:
        """Everything but weights that decides what is found in a region, as values of JSON."""
        settings: dict[str, Any] = {
            "encoder": self.name,
            "encoder_options": {},
            "pooling": self.pooling,
            "region_size": self.region_size,
            "in_channels": self.in_channels,
            "tokens_per_region": self.tokens_per_region,
        }
        # Only then, so that stores of encoders without them keep the identity that they have always had.
        settings |= {"halo": self.halo} if self.halo else {}
        settings |= {"adapter": self.adapter} if self.adapter else {}
        settings |= {"readout": self.readout} if self.readout in (CLASS, CLASS_AND_MEAN) else {}
        return settings | ({} if self.encoder_dtype == "float32" else {"encoder_dtype": self.encoder_dtype})

    def feature_weights(self) -> dict[str, Tensor]:
        """The weights that features depend on, on the CPU; with `settings` they are the encoder's identity."""
        return {
            name: value.detach().cpu().contiguous()
            for name, value in self.state_dict().items()
            if name.startswith(_OF_FEATURES)
        }

    @property
    def device(self) -> torch.device:
        return self.scaling.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """That it computes in."""
        return self.scaling.mean.dtype

    @property
    def network_dtype(self) -> torch.dtype:
        """That the network computes in."""
        return first_number(self.network, self.scaling.mean).dtype

    @property
    def encoder_dtype(self) -> str:
        """That the network's weights lie in, as a configuration says it; "float32" where it is that of all else."""
        own = (
            "float32" if self.network_dtype == self.dtype else str(self.network_dtype).removeprefix("torch.")
        )
        return coded_as(self.network) or own

    @property
    def dim(self) -> int:
        """Width of the tokens, D."""
        return self.projection.out_features

    @property
    def tokens_per_region(self) -> int:
        return self.tokens_per_side**2

    @property
    def feature_width(self) -> int:
        """Channels of the features, that a token is projected from."""
        return self.feature_dims[-1] * (2 if self.readout == CLASS_AND_MEAN else 1)

    @property
    def window_size(self) -> int:
        """Side of what the network sees of a region W = S + 2 halo, in pixels."""
        return self.region_size + 2 * self.halo

    def feature_maps(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """The network's maps, finest first: (regions, channels, W / stride, W / stride) each.

        Raises:
            ShapeError: the regions have another size or number of channels.
        """
        return self._maps(self._result(pixels, valid))

    def features_and_maps(self, pixels: Tensor, valid: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """`features` and `feature_maps` of a region batch at one time."""
        return self._found(self._result(pixels, valid))

    def of_scaled(self, scaled: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`features_and_maps` of pixels that are `scaled` already."""
        return self._found(self._seen(scaled))

    def features(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """What the network finds in a region batch, as it is read out; see `forward`.

        Returns:
            (regions, N, feature_width), row by row inside a region. This is what `xt encode` stores: everything behind
            it can be trained without pixels.
        """
        return self.features_and_maps(pixels, valid)[0]

    def pooled(self, last_map: Tensor) -> Tensor:
        """The last feature map without its halo, pooled to (regions, N, channels)."""
        central = cropped(last_map, self._halo_cells())
        pooled: Tensor = self.pool(central)
        return pooled.flatten(2).transpose(1, 2)

    def project(self, features: Tensor) -> Tensor:
        """(regions, N, feature_width) -> (regions, N, D) tokens."""
        tokens: Tensor = self.projection(self.norm(features))
        return tokens

    def projection_parameters(self) -> list[nn.Parameter]:
        """What `project` computes with."""
        return [*self.norm.parameters(), *self.projection.parameters()]

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encode a region batch.

        Args:
            pixels: (regions, C, W, W), in the file's own type and scale.
            valid: the same shape, False outside the image and at nodata; None if everything counts.

        Returns:
            (regions, N, D) tokens, row by row inside a region.

        Raises:
            ShapeError: the regions have another size or number of channels.
        """
        return self.project(self.features(pixels, valid))

    def check_places(self) -> None:
        """Refuse answers about places from maps whose cells do not lie at their strides.

        Raises:
            ConfigError: there is one, of a network whose convolutions leave a rim out.
        """
        for side, stride in zip(self._sides, self.strides, strict=True):
            cells = -(-self.window_size // stride)
            if side != cells:
                raise ConfigError(
                    f"the map of {self.name} at stride {stride} has {side} cells along {self.window_size} pixels, not "
                    f"{cells}, so that nobody knows where they lie: take another encoder for answers about places"
                )

    def network_for(self, window_size: int) -> nn.Module:
        """A network for regions of another size, to say which sizes would fit; here the one that is there."""
        return self.network

    def scaled(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """The pixels of regions as the network wants them, see `PixelScaling`.

        Raises:
            ShapeError: the regions have another size or number of channels.
        """
        expected = (self.in_channels, self.window_size, self.window_size)
        if tuple(pixels.shape[1:]) != expected:
            raise ShapeError(f"expected regions of shape {expected}, got {tuple(pixels.shape[1:])}")
        scaled: Tensor = self.scaling(pixels, valid)
        return scaled

    def _result(self, pixels: Tensor, valid: Tensor | None) -> Any:
        return self._seen(self.scaled(pixels, valid))

    def _seen(self, scaled: Tensor) -> Any:
        return self.network(scaled.to(self.network_dtype).contiguous(memory_format=self.memory_format))

    def _found(self, result: Any) -> tuple[Tensor, list[Tensor]]:
        maps = self._maps(result)
        class_token = self.class_token(result)
        return self._read_out(maps[-1], None if class_token is None else class_token.to(self.dtype)), maps

    def _maps(self, result: Any) -> list[Tensor]:
        return [features.to(self.dtype) for features in self.as_maps(result)]

    def _read_out(self, last_map: Tensor, class_token: Tensor | None) -> Tensor:
        """(regions, N, feature_width)"""
        parts = []
        if class_token is not None and self.readout in (CLASS, CLASS_AND_MEAN):
            parts.append(self.after_pooling(class_token[:, None]).expand(-1, self.tokens_per_region, -1))
        if self.readout != CLASS:
            parts.append(self.after_pooling(self.pooled(last_map)))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def _check_readout(self, class_token: Tensor | None, tokens_per_region: int | None) -> None:
        if self.readout in (CLASS, CLASS_AND_MEAN) and class_token is None:
            raise ConfigError(
                f"readout {self.readout!r} takes the class token, and {self.name} has none: set readout to 'patches'"
            )
        if self.readout == CLASS and tokens_per_region not in (None, 1):
            raise ConfigError(
                f"readout 'class' gives one token a region, got tokens_per_region {tokens_per_region}: leave it out, "
                "or set readout to 'class_and_mean' or 'patches'"
            )

    def _halo_cells(self) -> int:
        """The halo in cells of the last feature map."""
        stride = self.strides[-1]
        if self.halo < 0 or self.halo % stride or (self.halo and self.region_size % stride):
            raise ConfigError(
                f"halo must be a multiple of {self.name}'s last stride {stride}, and the region size too where there "
                f"is a halo; got a halo of {self.halo} and regions of {self.region_size} pixels"
            )
        return self.halo // stride


def _memory_format(network: nn.Module) -> torch.memory_format:
    """Channels last for networks of convolutions and batch norms alone, which are faster so (a ResNet-18 by a fifth,
    `benchmarks/fast_paths.py`); ConvNeXt and transformers lay their activations out by themselves."""
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    return torch.channels_last if has_batch_norm else torch.contiguous_format
