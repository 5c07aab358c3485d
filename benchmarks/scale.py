"""The arithmetic of docs/scale.md: what follows from what each stage costs (`stages.py`), for `tables.py` to write."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from tables import ROOT, Measured, cell, markdown, newest, words

CODE = (
    "xt/regions/reader.py",
    "xt/region_encoders/timm.py",
    "xt/context_encoders",
    "xt/heads",
    "xt/prediction",
)
SWIN = "swinv2_tiny_window16_256"
# As long as `gpu.py` has measured none: Hiera-T forward as timm publishes it of an RTX 4090; a training step, computed
# again, takes as long as four forward passes.
PUBLISHED = (2800.0, 700.0)
# Of a region of 256 pixels, RGB of 8 bits; of a token 256 wide.
REGION_BYTES, TOKEN_BYTES = 3 * 256**2, 4 * 256
# Tokens of a region at stride 32, and pooled.
TOKENS, POOLED = 64, 4
# A GPU's speed in the context encoder over that of a core, as long as none is measured.
GPU_OVER_CORE = 100
# Of Swin-V2-T's 28 million parameters.
GRADIENT_BYTES = 4 * 28e6
SLIDE, SCENE = (200_000, 200_000), (29_400, 24_400)


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of one region or token.

    Attributes:
        read, write: seconds of a core.
        file_bytes: of a region in a JPEG-compressed file.
        forward, training: regions a second of a GPU; training computes them twice.
        mix: seconds of a GPU for a token, forward and back; `mix_on_core` of a core.
        gpu: where the GPU's figures are from.
    """

    read: float
    write: float
    file_bytes: float
    forward: float
    training: float
    mix: float
    mix_on_core: float
    gpu: str


def costs_of(measured: Measured) -> Costs:
    """From the results of the stages on a core, and on a GPU if there are any."""
    core = {(row["stage"], row["note"]): row["microseconds"] / 1e6 for row in measured.rows}
    stage = {name: seconds for (name, _), seconds in core.items()}
    (note,) = (note for name, note in core if name == "read and decode")
    forward, training = PUBLISHED
    mix, origin = (
        stage["mix and back"] / GPU_OVER_CORE,
        "published by timm; a step taken as four forward passes",
    )
    for gpu in newest("gpu-stages", CODE, ROOT / "benchmarks" / "results")[-1:]:
        rows = [row for point in gpu.rows for row in point["stages"]]
        found = {(row["stage"], row["note"]): row["microseconds"] / 1e6 for row in rows}
        forward = 1 / found["encode", SWIN]
        training = 1 / (found["encode", SWIN] + found["encode and back", SWIN])
        mix = next(seconds for (name, _), seconds in found.items() if name == "mix and back")
        origin = gpu.origin
    return Costs(
        read=stage["read and decode"], write=stage["write the mask, with overviews"],
        file_bytes=1e3 * float(note.split()[0]), forward=forward, training=training, mix=mix,
        mix_on_core=stage["mix and back"], gpu=origin,
    )  # fmt: skip


def regions_of(shape: tuple[int, int]) -> int:
    return ceil(shape[0] / 256) * ceil(shape[1] / 256)


def on_a_core(measured: Measured) -> str:
    time = {(row["stage"], row["note"]): row["microseconds"] for row in measured.rows}
    (read,) = (each for (stage, _), each in time.items() if stage == "read and decode")
    times = [(each / read, note) for (stage, note), each in time.items() if stage == "encode"]
    (least, fast), (most, slow) = min(times), max(times)
    return (
        f"On a CPU encoding is by far the slowest stage: it takes {least:.0f} times ({fast}) to {most:.0f} times "
        f"({slow}) as long as reading."
    )


def one_gpu(costs: Costs) -> str:
    forward, training = costs.forward, costs.training
    return (
        f"With {forward:,.0f} regions a second forward and {training:,.0f} in training, recomputed ({costs.gpu}):\n\n"
        f"**For each GPU in prediction**: {forward:,.0f} regions a second need {forward * costs.read:.1f} "
        "cores to decode "
        f"JPEG, {forward * costs.file_bytes / 1e6:.0f} MB/s of files ({forward * REGION_BYTES / 1e6:.0f} MB/s "
        "if they are "
        f"not compressed, {forward * 256**2 * 2 * 4 / 1e9:.1f} GB/s for two bands of 32-bit floats), and for masks "
        f"{forward * costs.write:.1f} cores to write them. In training everything is read twice: "
        f"{2 * training * costs.read:.1f} cores."
    )


def eight_gpus(costs: Costs) -> str:
    regions = regions_of(SLIDE)
    step = {gpus: regions / costs.training / gpus for gpus in (1, 8, 16)}
    tokens, pooled = regions * TOKENS, regions * POOLED
    mix = pooled * costs.mix

    def faster(gpus: float) -> float:
        return (step[1] + mix) / (step[1] / gpus + mix)

    return (
        f"A slide of {SLIDE[0]:,} x {SLIDE[1]:,} pixels is {regions:,} regions. Encoded on one GPU "
        f"{regions / costs.forward:.0f} s, on eight {regions / costs.forward / 8:.0f} s, by "
        f"{8 * costs.forward * costs.read:.0f} cores that decode. A training step takes {step[8]:.0f} s on eight.\n\n"
        f"With {TOKENS} tokens a region (a 256-pixel region at stride 32) these are {tokens / 1e6:.0f} "
        "million tokens of "
        f"1 kB: {tokens * TOKEN_BYTES / 1e9:.0f} GB, and as much again for each of their gradients and the context "
        f"encoder's output, on every GPU. **This is the first wall.** `model.tokens_per_region: {POOLED}` "
        "pools them to "
        f"{pooled / 1e6:.1f} million: {pooled * TOKEN_BYTES / 1e9:.1f} GB, and "
        f"{3 * pooled * TOKEN_BYTES / 1e9:.1f} GB "
        f"with gradients. What travels between GPUs is the tokens, once in each direction: "
        f"{pooled * TOKEN_BYTES / 1e9:.1f} GB, {pooled * TOKEN_BYTES / 25e9:.1f} s at 25 GB/s; and the parameters' "
        f"gradients, {GRADIENT_BYTES / 1e9:.1f} GB.\n\n"
        "**The second wall is the context encoder, which every rank runs on all tokens.** "
        f"{pooled / 1e6:.1f} million tokens take a core {pooled * costs.mix_on_core:,.0f} s forward and back, a GPU "
        f"{mix:.0f} s. One GPU then takes {step[1]:.0f} + {mix:.0f} s for a step, eight {step[8]:.0f} + {mix:.0f} "
        f"({faster(8):.1f} times faster), sixteen {step[16]:.0f} + {mix:.0f} ({faster(16):.1f} times), and no "
        "number more "
        f"than {faster(float('inf')):.0f} times."
    )


def many_gpus(costs: Costs) -> str:
    rate = 64 * costs.training
    slides = 2000 * regions_of(SLIDE) / 5
    return (
        f"At 10 GB/s the parameters' gradients take {2 * GRADIENT_BYTES / 10e9 * 1e3:.0f} ms of a step of "
        f"{regions_of(SLIDE) / costs.training / 8:.0f} s.\n\n"
        f"Files: 64 GPUs x {costs.training:,.0f} regions a second x 2 passes = "
        f"{2 * rate * costs.file_bytes / 1e9:.1f} GB/s "
        f"of JPEG, which one file server with NVMe gives, or {2 * rate * REGION_BYTES / 1e9:.0f} GB/s "
        "uncompressed, which "
        "it does not: **tile and compress before training** (`xt tile`). 2,000 slides with a fifth of tissue are "
        f"{slides / 1e6:.0f} million regions: an epoch takes {slides / rate / 3600:.1f} hours. With `xt encode` once "
        f"({slides / (64 * costs.forward) / 3600:.1f} hours) and training from features, minutes."
    )


def many_machines(costs: Costs) -> str:
    regions = regions_of(SCENE)
    rate = regions * 50_000 / 86_400
    scene_bytes = SCENE[0] * SCENE[1] * 2 * 4
    once = scene_bytes * 50_000 / 86_400
    everything = 1000 * costs.forward
    return (
        f"A SAR scene of {SCENE[0]:,} x {SCENE[1]:,} pixels is {regions:,} regions; 50,000 a day are "
        f"{rate:,.0f} regions a "
        f"second. A dense head with context goes over them twice, so {2 * rate:,.0f} a second: "
        f"{2 * rate / costs.forward:.1f} GPUs for the encoder and as many again for the decoder, "
        f"{2 * rate * costs.read:.0f} cores to read (of JPEG's time; floats compressed with deflate cost "
        "about the same) and "
        f"{rate * costs.write:.0f} to write. The bottleneck is the files, not the GPUs: two bands of floats are "
        f"{scene_bytes / 1e9:.1f} GB a scene, {scene_bytes * 50_000 / 1e12:.0f} TB a day, {once / 1e9:.1f} "
        "GB/s, and read "
        f"twice {2 * once / 1e9:.1f} GB/s, from storage that keeps up.\n\n"
        f"With a thousand machines of one GPU each: {everything / 1e6:.1f} million regions a second, "
        f"{everything / 2 * 86_400 / regions / 1e6:.0f} million scenes a day; "
        f"**{everything * costs.file_bytes / 1e9:.0f} GB/s "
        f"of JPEG or {everything * 256**2 * 2 * 4 / 1e12:.1f} TB/s of floats: the storage is the wall, long "
        "before anything "
        "here**; then the manifest, one line an image, which one process writes."
    )


def walls(costs: Costs) -> str:
    slide, scene = regions_of(SLIDE), regions_of(SCENE)
    lines = (
        f"Tokens of the whole image on every rank ({slide * TOKENS * TOKEN_BYTES / 1e9:.0f} GB at {SLIDE[0]:,} x "
        f"{SLIDE[1]:,} pixels and {TOKENS} tokens a region): pool them now; shard them later.",
        "The context encoder on every rank: from eight to sixteen GPUs on for one image.",
        f"Decoding JPEG on cores: {costs.forward * costs.read:.1f} for each GPU.",
        f"Writing: a COG is put together by one process, {1 / costs.write:,.0f} regions a second: a scene of "
        f"{scene:,} "
        f"regions takes it {scene * costs.write:.0f} s, a slide of {slide:,} {slide * costs.write / 60:.0f} minutes.",
    )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def unit_costs(measured: Measured) -> str:
    """A line for each stage of a core."""
    head = ["stage", "of one", "time", "a second", "measured"]
    lines = []
    for row in measured.rows:
        time = f"{row['microseconds'] / 1e3:,.2f} ms"
        stage = f"{row['stage']}, {row['note']}"
        lines.append([stage, row["of one"], time, cell(row, "a second"), measured.origin])
    return markdown([head, *lines])


def reckoned(write: Callable[[Costs], str]) -> Callable[..., str]:
    """In words, with what they reckon with."""
    return words(lambda measured: write(costs_of(measured)))


SECTIONS = {
    "scale-one-gpu": one_gpu,
    "scale-eight": eight_gpus,
    "scale-many": many_gpus,
    "scale-machines": many_machines,
    "scale-walls": walls,
}
