"""Images that were encoded before, in a model: their features -> tokens, by the region encoder's last step alone."""

from collections.abc import Sequence

from torch import Tensor

from xt.errors import ShapeError
from xt.region_encoders.base import RegionEncoder
from xt.regions.encoded import EncodedImage, FeatureReader
from xt.streaming.limits import RegionLimits
from xt.streaming.map import Streaming, streamed_map
from xt.streaming.parallel import agree, share_of

# Up to here, computing graphs again would cost more reading than it saves memory.
_SMALL_GRAPHS_BYTES = 2**26


def project_features(
    encoder: RegionEncoder, images: Sequence[EncodedImage], settings: Streaming, limits: RegionLimits
) -> Tensor:
    """(regions, N, D) tokens of all images, one image's after the other's, as `encoder` makes them of pixels.

    Raises:
        ShapeError: the features are not of such an encoder, or there are images with pixels among them.
    """
    if not all(isinstance(image, EncodedImage) for image in images):
        raise ShapeError("images with pixels and encoded images cannot be mixed in one call of the model")
    device = encoder.device
    ranks = settings.region_parallel
    features = FeatureReader(
        images,
        (encoder.tokens_per_region, encoder.feature_width),
        region_batch=agree(ranks, [image.grid for image in images], settings.region_batch or 1, device),
        device=device,
        dtype=encoder.dtype,
    )
    share = share_of(features, ranks, device)
    tokens = streamed_map(
        encoder.project,
        features,
        encoder.projection_parameters(),
        keep=_SMALL_GRAPHS_BYTES if settings.keep == "none" else settings.keep,
        progress=settings.progress,
        numbers=share.numbers,
        limit=limits.of("project"),
    )
    return share.gather(tokens)
