"""Region encoders of the transformers library, with their weights; the library is an optional package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xt.region_encoders.bands import RGB, Bands
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.cards import readout_of
from xt.region_encoders.hub import TRANSFORMERS
from xt.region_encoders.origin import of_file, warn_of_others
from xt.region_encoders.token_network import Found
from xt.region_encoders.transformers_networks import around, create_transformers_network, is_whole_model
from xt.region_encoders.transformers_source import TransformersSource, transformers_source, weights_of


class TransformersEncoder(RegionEncoder):
    """The feature maps of a network of the transformers library.

    Args:
        network: its name, see `xt.region_encoders.transformers_source`; or a model that is there.
        dim: width of the tokens, D.
        region_size: side of a region S, in pixels; None for the size the network was made for, less the halo.
        halo: see `RegionEncoder`, as what is not said here.
        readout: None for what the card of the weights says, else for "patches".
        pretrained: load the weights of the repository or folder, or those in this folder.
        pixel_mean: None for the one of preprocessor_config.json, as is the next; 0.5 where there is none.
        options: of the library's configuration, such as {"drop_path_rate": 0.1}.
        origin: what a saved model says of the name and of its weights; None where nothing was saved.

    Raises:
        ConfigError: there is no such network, it cannot be had, or the settings do not fit it.
    """

    def __init__(
        self,
        network: str | nn.Module,
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
        self.options = dict(options or {})
        bands = bands or Bands(None, in_channels, RGB)
        file: Path | None = None
        if isinstance(network, str):
            source = transformers_source(network, self.options, in_channels, None if pretrained else origin)
            file = weights_of(source, pretrained) if pretrained else None
            made = create_transformers_network(source, region_size and region_size + 2 * halo, bands, file)
        else:
            source = TransformersSource(name=name_of(network), configuration=network.config)
            made = around(network)
        super().__init__(
            source.name,
            region_size=region_size or (source.size or 224) - 2 * halo,
            halo=halo,
            in_channels=in_channels,
            pixel_mean=pixel_mean or bands.statistics(source.mean),
            pixel_std=pixel_std or bands.statistics(source.std),
        )
        self.registered_as = source.name
        self.bands = bands
        self.made_for = source.size and source.size - 2 * halo
        # Of a model that is given there is this one alone.
        self._source = source if isinstance(network, str) else None
        if made.patch is not None:
            # Known before any region is looked at: says which sizes fit.
            self.strides = [made.patch]
        self.set_network(
            made,
            dim,
            tokens_per_region=tokens_per_region,
            pooling=pooling,
            readout=readout or readout_of(source.readout, tokens_per_region, pooling),
        )
        self.origin = source.description
        if file is not None:
            self.origin |= of_file(file)
            warn_of_others(source.name, origin, self.origin)
        elif origin is not None:
            self.origin = {**origin, **self.origin}

    def as_maps(self, result: Found) -> list[Tensor]:
        return result.maps

    def class_token(self, result: Found) -> Tensor | None:
        return result.class_token

    def network_for(self, window_size: int) -> nn.Module:
        if self._source is None:
            return self.network
        return create_transformers_network(self._source, window_size, self.bands)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"encoder_options": self.options, "readout": self.readout}


def whole_model_in(module: nn.Module) -> nn.Module | None:
    """What of a module of the transformers library looks at pixels: itself, or what its head is put on; None of other
    modules, and where it is not what the library makes of its configuration."""
    inner = getattr(module, getattr(module, "base_model_prefix", None) or "", module)
    return next(
        (part for part in (module, inner) if isinstance(part, nn.Module) and is_whole_model(part)), None
    )


def name_of(model: Any) -> str:
    """Of a model that is there: where it was loaded from, or of which kind it is."""
    return TRANSFORMERS + (getattr(model.config, "name_or_path", "") or model.config.model_type)
