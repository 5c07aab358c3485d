"""Region encoders of timm, with its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from xt.region_encoders.bands import RGB, Bands
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.cards import readout_of
from xt.region_encoders.first_layer import Naming, filters_for
from xt.region_encoders.layers import NetworkParameter
from xt.region_encoders.origin import origin_of, warn_of_others
from xt.region_encoders.pretrained import weights_file, weights_for
from xt.region_encoders.sources import source_of
from xt.region_encoders.timm_names import layers_by_timm
from xt.region_encoders.timm_networks import create_network, whole_model
from xt.region_encoders.timm_weights import as_timm_has_them, first_layers, names_in_network
from xt.region_encoders.token_network import Found, TokenNetwork


class TimmEncoder(RegionEncoder):
    """The feature maps of a timm network.

    Args:
        name: of any timm model that has feature maps, as `xt.region_encoders.sources` takes it.
        dim: width of the tokens, D.
        region_size: side of a region S, in pixels; None for the size the network was made for, less the halo.
        halo: see `RegionEncoder`, as what is not said here.
        readout: None for what the card of the weights says, else for "patches".
        pretrained: load timm's weights (needs a network the first time), or those in this file or folder.
        pixel_mean: None for the one of the network's training, as is the next.
        options: handed to timm, e.g. {"drop_path_rate": 0.1}.
        bands: the channels, where they are named; None for as many as there are, without names.
        origin: what a saved model says of the name and of its weights; None where nothing was saved.

    Raises:
        ConfigError: timm has no such model, it has no feature maps, the settings do not fit it, or it would not see
            all pixels of such regions.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        *,
        region_size: int | None = None,
        halo: int = 0,
        in_channels: int = 3,
        tokens_per_region: int | None = None,
        pooling: str | None = None,
        readout: str | None = None,
        pretrained: bool | str = False,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        options: Mapping[str, Any] | None = None,
        bands: Bands | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        bands = bands or Bands(None, in_channels, RGB)
        # Weights are asked for where the name says; a saved model has its own.
        self._source = source_of(name, None if pretrained else origin)
        native = self._source.native
        super().__init__(
            name,
            region_size=region_size or native["input_size"][-1] - 2 * halo,
            halo=halo,
            in_channels=in_channels,
            pixel_mean=pixel_mean or bands.statistics(native["mean"]),
            pixel_std=pixel_std or bands.statistics(native["std"]),
        )
        self.registered_as = name
        self.bands = bands
        self.made_for = native["input_size"][-1] - 2 * halo
        self.options = dict(options or {})
        card = self._source.card
        readout = readout or readout_of(None if card is None else card.readout, tokens_per_region, pooling)
        weights = weights_for(self._source, pretrained) if pretrained else None
        network: Any = self._made(readout, weights)
        self.set_network(
            network,
            dim,
            strides=network.strides
            if isinstance(network, TokenNetwork)
            else network.feature_info.reduction(),
            tokens_per_region=tokens_per_region,
            pooling=pooling,
            readout=readout,
        )
        if weights is not None:
            self.origin = origin_of(self._source, weights_file(self._source, weights))
            warn_of_others(name, origin, self.origin)
        else:
            self.origin = dict(origin or {}) | self._source.description or None

    def as_maps(self, result: Found | Sequence[Tensor]) -> list[Tensor]:
        if isinstance(result, Found):
            return result.maps
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return [features.permute(0, 3, 1, 2) for features in result]
        return list(result)

    def class_token(self, result: Found | Sequence[Tensor]) -> Tensor | None:
        return result.class_token if isinstance(result, Found) else None

    def after_pooling(self, features: Tensor) -> Tensor:
        network: Any = self.network
        if not isinstance(network, TokenNetwork):
            return features
        # Its weights may lie in fewer digits than what it is computed in elsewhere.
        return network.after_pooling(features.to(self.network_dtype)).to(features.dtype)

    def layers(self) -> list[NetworkParameter]:
        """What a layer is, and what has no weight decay, timm says."""
        return layers_by_timm(self.network, whole_model(self._source, self.options))

    def namings(self) -> list[Naming]:
        """As the network's form that gives maps; and as timm has what their authors published, positions resampled."""
        whole: Any = whole_model(
            self._source, self.options, region_size=self.window_size, in_channels=self.in_channels
        )
        names = names_in_network(self.network, whole)
        own = self.network.state_dict()
        first = [names[name] for name in first_layers(whole) if name in names]

        def for_channels(tensors: Mapping[str, Tensor], bands: Bands) -> Mapping[str, Tensor]:
            mixed = {
                name: filters_for(bands, tensors[name], own[name].shape)
                for name in first
                if name in tensors and tensors[name].shape[:1] == own[name].shape[:1]
            }
            return {**tensors, **mixed}

        def by_timm(tensors: Mapping[str, Tensor], bands: Bands) -> Mapping[str, Tensor]:
            timms = as_timm_has_them(tensors, whole, self._source.architecture)
            return for_channels({names.get(name, name): value for name, value in timms.items()}, bands)

        return [for_channels, by_timm]

    def settings(self) -> dict[str, Any]:
        own = {"encoder_options": self.options}
        # Only of networks that are kept whole, so that stores of all others keep the identity that they have had.
        return super().settings() | own | ({"readout": self.readout} if self._is_whole() else {})

    def network_for(self, window_size: int) -> nn.Module:
        return create_network(self._source, window_size, self.in_channels, self.options, self.readout)

    def _made(self, readout: str, weights: Mapping[str, Any] | None) -> nn.Module:
        """The network, with timm's weights for the channels that are named."""
        source, size, options = self._source, self.window_size, self.options
        if weights is None or self.bands.names is None:
            return create_network(source, size, self.in_channels, options, readout, weights)
        self.bands.warn_of_strangers()
        network = create_network(source, size, self.in_channels, options, readout)
        base = source.native["input_size"][0]
        known = create_network(source, size, base, options, readout, weights).state_dict()
        whole = whole_model(source, options)
        names = names_in_network(network, whole)
        for name in (names[first] for first in first_layers(whole) if first in names):
            known[name] = filters_for(self.bands, known[name], network.state_dict()[name].shape)
        network.load_state_dict(known)
        return network

    def _is_whole(self) -> bool:
        return isinstance(self.network, TokenNetwork)
