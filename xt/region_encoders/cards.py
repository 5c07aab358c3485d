"""What the cards of well-known weights say beyond their config.json: how a token is read out, what timm is to be told.

Read in the places that `docs/encoders.md` names beside each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xt.region_encoders.readout import CLASS, CLASS_AND_MEAN, PATCHES

_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
_VIRCHOW = {"init_values": 1e-5, "mlp_ratio": 5.3375}
_NO_DERIVATIVES = "cc-by-nc-nd-4.0"
_H_OPTIMUS = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Of the weights of one repository.

    Attributes:
        readout: that the card makes its vector by.
        options: of timm's network, where config.json does not say them.
        statistics: `mean` and `std` of the pixels, likewise.
        architecture: timm's name of the network, as config.json has it.
        configuration: what config.json says of it beyond its name.
        licence: of the weights, as the hub calls it.
    """

    readout: str
    licence: str
    architecture: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def network(self) -> dict[str, Any]:
        """What makes a network of this shape where config.json is not here, as a plan wants it; see `source_of`."""
        return {"architecture": self.architecture, "options": {**self.configuration, **self.options}}


CARDS: dict[str, Card] = {
    "MahmoodLab/UNI": Card(
        readout=CLASS,
        licence=_NO_DERIVATIVES,
        architecture="vit_large_patch16_224",
        options={"init_values": 1e-5},
    ),
    "MahmoodLab/UNI2-h": Card(
        readout=CLASS,
        licence=_NO_DERIVATIVES,
        architecture="vit_giant_patch14_224",
        options={
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
        }
        | _SWIGLU,
    ),
    "paige-ai/Virchow": Card(
        readout=CLASS_AND_MEAN,
        licence="apache-2.0",
        architecture="vit_huge_patch14_224",
        configuration=_VIRCHOW,
        options=_SWIGLU,
    ),
    "paige-ai/Virchow2": Card(
        readout=CLASS_AND_MEAN,
        licence=_NO_DERIVATIVES,
        architecture="vit_huge_patch14_224",
        configuration=_VIRCHOW | {"reg_tokens": 4},
        options=_SWIGLU,
    ),
    "bioptimus/H-optimus-0": Card(
        readout=CLASS,
        licence="apache-2.0",
        architecture="vit_giant_patch14_reg4_dinov2",
        options={"init_values": 1e-5},
        statistics=_H_OPTIMUS,
    ),
    "bioptimus/H-optimus-1": Card(
        readout=CLASS,
        licence=_NO_DERIVATIVES,
        architecture="vit_giant_patch14_reg4_dinov2",
        options={"init_values": 1e-5},
        statistics=_H_OPTIMUS,
    ),
    "bioptimus/H0-mini": Card(
        readout=CLASS_AND_MEAN,
        licence=_NO_DERIVATIVES,
        architecture="vit_base_patch14_reg4_dinov2",
        # With this it has the 86 million weights that its card says.
        configuration={"mlp_ratio": 5.33334},
        options=_SWIGLU,
        statistics=_H_OPTIMUS,
    ),
    "prov-gigapath/prov-gigapath": Card(
        readout=CLASS,
        licence="apache-2.0",
        architecture="vit_giant_patch14_dinov2",
        configuration={
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
        },
    ),
}


# Of models of the transformers library, whose config.json says all else.
_READ = {"owkin/phikon": CLASS, "owkin/phikon-v2": CLASS}


def card_readout(repository: str | None) -> str | None:
    """What the card of "owner/name" says that its vector is, whatever its capitals."""
    card = card_of(repository)
    return card.readout if card else _READ.get((repository or "").partition("@")[0].lower())


_LICENCES = {"owkin/phikon": "owkin-non-commercial", "owkin/phikon-v2": "owkin-non-commercial"}


def card_licence(repository: str | None) -> str | None:
    """What the card of "owner/name" says of the weights' licence, whatever its capitals; None of others."""
    card = card_of(repository)
    return card.licence if card else _LICENCES.get((repository or "").partition("@")[0].lower())


def card_of(repository: str | None) -> Card | None:
    """The card of "owner/name" or "owner/name@revision", whatever its capitals."""
    wanted = (repository or "").partition("@")[0].lower()
    return next((card for name, card in CARDS.items() if name.lower() == wanted), None)


def readout_of(said: str | None, tokens_per_region: int | None, pooling: str | None) -> str:
    """By what the card of the weights has said, where it goes with what else is asked for."""
    if said is None:
        return PATCHES
    if said == CLASS:
        return CLASS if tokens_per_region in (None, 1) else PATCHES
    return said if pooling in (None, "mean") else PATCHES
