"""What a model is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xt.errors import ConfigError
from xt.images.resolution import Resolution
from xt.region_encoders.bands import RGB, Bands
from xt.region_encoders.trained import parse_trained

# What is handed to the parts besides their options.
_TAKEN = {
    "encoder_options": {
        "checkpoint_path",
        "features_only",
        "img_size",
        "in_chans",
        "model_name",
        "pretrained",
        "pretrained_cfg_overlay",
    },
    "context_options": {"dim", "kind", "name", "table"},
    "regions_options": {"levels", "name"},
    "head_options": {"dim", "geometry", "kind", "name", "num_classes", "table"},
}
# More than anyone has meant: what is beyond is a slip, or a file that something has changed.
_LARGEST = {
    "num_classes": 2**20, "in_channels": 2**12, "dim": 2**14, "levels": 12, "region_size": 2**14, "halo": 2**14,
    "image_size": 2**14, "case_images": 2**12,
}  # fmt: skip
ENCODER_DTYPES = ("float32", "bfloat16", "int8", "float8")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What `create_model` makes a model from; saved with the weights.

    Attributes:
        encoder: region encoder, any timm name that has feature maps; hf-hub:OWNER/NAME for a repository of the Hugging
            Face hub, local-dir:PATH for a folder with its files.
        context: context encoder, a key of `xt.context_encoders.CONTEXT_ENCODERS`, such as "transformer_xl".
        head: "classification", "multilabel", "regression", "ordinal", "survival" or "multitask" of whole images;
            "segmentation", "points" or "detection" of what is where in them.
        num_classes: classes, labels or numbers to predict, at least 1.
        in_channels: of the images, at least 1; left out where `channels` are named.
        channels: names of the images' channels in their order, such as [red, green, blue, nir]: those that weights from
            elsewhere know get their filters, the others the mean of these; None for timm's rule, which goes by their
            order alone.
        weights_channels: names of the channels that those weights know, in their order; None for red, green, blue.
        region_size: side of a region in pixels; None for the size the region encoder was made for.
        halo: pixels read around each region, seen by the region encoder and cut off its answers; a multiple of its
            last stride.
        tokens_per_region: a square number; None for one per cell of the region encoder's last feature map, or for one
            alone where the readout takes the class token.
        readout: what a token is made of: "patches", cells of the last map behind the network's last norm; "class", its
            class token; "class_and_mean", both side by side; "last_map", cells before that norm, as in models made
            before there was a choice; None for what the weights' card says, else for patches.
        pooling: "max" or "mean", from that feature map to the tokens; None for what the readout says, mostly max.
        dim: width of the context sequence.
        order: of the regions: "raster", "serpentine" or "hilbert".
        case_images: how many images a case has at most, where several have one answer: each has a learned vector of its
            own; None for answers about one image. A training run sets it by `data.case_column`.
        thumbnail: whether the model also looks at the whole image, in one region's size, see `xt.model.thumbnail`.
        image_size: of photographs: the side in pixels to which each is resized, whole, before it is cut into regions;
            None for images of any size at full resolution.
        microns_per_pixel: at which slides are read, whatever their own resolution, in micrometres; None for as they
            are. All sizes of the model, such as region_size, are in pixels as it reads them.
        map_units_per_pixel: likewise of maps, in metres, whatever the unit of their coordinates; one of the two.
        foreground: which regions are looked at: None for all, "nodata" for those with data, "tissue" for those
            with colour (slides).
        regions: how it is chosen which of them are looked at, and at which scale, a key of
            `xt.model.choices.REGION_CHOICES`: "all" at full resolution; "by_content", finely where the image has
            structure and coarsely where it is plain; "by_model", where a scorer that learns with the model asks to see
            more.
        levels: of the pyramid that regions are taken from, each half as fine as the one before, with a learned vector
            for each but the finest; None for 1 where all are looked at, else for the choice's own number.
        regions_options: of the choice's class, such as {"budget": 0.2}.
        encoder_origin: written by xt, of the weights that were loaded: repository, revision, file and sha256; and what
            makes the region encoder again where its config.json is not.
        pretrained: start from timm's weights of the region encoder; or from those in the file or folder that is named.
        adapter: low-rank matrices beside the region encoder's frozen weights, "lora:RANK" or "dora:RANK"; None for
            none. A training run sets it by `optim.encoder_train`.
        encoder_dtype: that the region encoder's weights lie in: "float32"; or, where they are not trained, "bfloat16",
            "int8" or "float8", see `xt.region_encoders.weight_types`.
        pixel_mean: of each channel in unit scale (see `xt.region_encoders.scaling`); None for the region encoder's own.
        pixel_std: likewise, positive.
        class_names: num_classes of them; None where they have none.
        encoder_options: handed to timm.
        context_options: of the context encoder's class, such as {"depth": 2}.
        head_options: of the head's class.
    """

    encoder: str
    context: str = "transformer_xl"
    head: str = "classification"
    num_classes: int = 2
    in_channels: int = 3
    channels: Sequence[str] | None = None
    weights_channels: Sequence[str] | None = None
    region_size: int | None = None
    halo: int = 0
    tokens_per_region: int | None = None
    readout: str | None = None
    pooling: str | None = None
    dim: int = 256
    order: str = "raster"
    case_images: int | None = None
    thumbnail: bool = False
    image_size: int | None = None
    microns_per_pixel: float | None = None
    map_units_per_pixel: float | None = None
    foreground: str | None = None
    regions: str = "all"
    levels: int | None = None
    regions_options: Mapping[str, Any] = field(default_factory=dict)
    encoder_origin: Mapping[str, Any] | None = None
    pretrained: bool | str = False
    adapter: str | None = None
    encoder_dtype: str = "float32"
    pixel_mean: Sequence[float] | None = None
    pixel_std: Sequence[float] | None = None
    class_names: Sequence[str] | None = None
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    context_options: Mapping[str, Any] = field(default_factory=dict)
    head_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_channels()
        sizes = [size for size in (self.region_size, self.image_size, self.case_images) if size is not None]
        if min(self.num_classes, self.in_channels, self.dim, *sizes) < 1:
            raise ConfigError(
                "num_classes, in_channels, dim, region_size, image_size and case_images must be at least 1, got "
                f"{self.num_classes}, {self.in_channels}, {self.dim}, {self.region_size}, {self.image_size} and "
                f"{self.case_images}"
            )
        for name, largest in _LARGEST.items():
            if (getattr(self, name) or 0) > largest:
                raise ConfigError(f"{name} must be at most {largest}, got {getattr(self, name)}")
        self._check_options()
        if self.adapter is not None and not parse_trained(self.adapter, "adapter").is_adapter:
            raise ConfigError(f"adapter must be lora:RANK or dora:RANK, got {self.adapter!r}")
        if self.encoder_dtype not in ENCODER_DTYPES:
            raise ConfigError(
                f"encoder_dtype must be one of {', '.join(ENCODER_DTYPES)}, got {self.encoder_dtype!r}"
            )
        if self.image_size is not None:
            self._check_takes_photos()
        if self.resolution.is_set and self.image_size is not None:
            raise ConfigError(
                "image_size resizes each image to one size, whatever its resolution: leave microns_per_pixel and "
                "map_units_per_pixel out"
            )
        if self.image_size is not None and self.regions != "all":
            raise ConfigError(
                f"image_size resizes each image to one size, and model.regions {self.regions!r} chooses among its "
                "scales: leave one of the two out"
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ConfigError(
                f"num_classes is {self.num_classes}, but there are {len(self.class_names)} class_names"
            )

    def check_answers(self, about_places: bool) -> None:
        """Refuse images that are resized for answers about their own pixels.

        Args:
            about_places: whether the head answers about every place.
        """
        if about_places and self.case_images is not None:
            raise ConfigError(
                f"case_images is about one answer for several images, and the head {self.head!r} answers about their "
                "places: leave it out, or take a head that answers about whole images"
            )
        if about_places and self.image_size is not None:
            raise ConfigError(
                f"image_size resizes images, and the head {self.head!r} answers about their pixels: leave it out, or "
                "take a head that answers about whole images"
            )

    @property
    def bands(self) -> Bands:
        """The images' channels, and those of weights from elsewhere."""
        names = None if self.channels is None else _plain(self.channels)
        return Bands(names, self.in_channels, _plain(self.weights_channels or RGB))

    @property
    def resolution(self) -> Resolution:
        """At which the model reads images."""
        return Resolution(
            microns_per_pixel=self.microns_per_pixel, map_units_per_pixel=self.map_units_per_pixel
        )

    def _check_channels(self) -> None:
        for name in ("channels", "weights_channels"):
            given = getattr(self, name)
            if given is not None and (
                isinstance(given, str) or not given or len(set(_plain(given))) < len(given)
            ):
                raise ConfigError(
                    f"{name} must name each channel once, as in [red, green, blue, nir], got {given}"
                )
        if self.channels is None:
            return
        count = len(self.channels)
        if self.in_channels == ModelConfig.in_channels:
            object.__setattr__(self, "in_channels", count)
        if self.in_channels != count:
            raise ConfigError(
                f"in_channels is {self.in_channels}, but channels names {count} ({', '.join(self.channels)}): leave "
                "in_channels out"
            )

    def _check_options(self) -> None:
        for part, taken in _TAKEN.items():
            for name in getattr(self, part):
                if not isinstance(name, str) or name in taken:
                    raise ConfigError(
                        f"{part} has {name!r}, which is no option but follows from the model's settings: leave it out"
                    )

    def _check_takes_photos(self) -> None:
        if self.in_channels != 3 or self.foreground is not None:
            raise ConfigError(
                "image_size is for photographs, which have 3 channels and no foreground, got in_channels "
                f"{self.in_channels} and foreground {self.foreground!r}"
            )


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    """Names that differ in capitals alone are the same."""
    return tuple(name.strip().lower() for name in names)
