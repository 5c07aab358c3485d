"""A plan in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xt.planning.plan import Plan


def table(plan: "Plan") -> Iterator[str]:
    """The plan, line by line."""
    height, width = plan.image
    lines = {
        "image": f"{height:,} x {width:,} pixels (height x width), as the model reads it",
        "model": f"{plan.model}; {_regions(plan)} of {plan.region_size} pixels at a time",
        "weights": _weights(plan),
        "device": f"{plan.device}, {in_bytes(plan.memory_bytes)} free",
        "regions": _looked_at(plan),
        "tokens": f"{plan.tokens:,}, {in_bytes(plan.token_bytes)}",
    }
    for name, value in lines.items():
        yield f"{name:<10}{value}"
    yield ""
    yield f"{'step':<22}{'peak memory':>12}{'time':>14}  fits"
    for step in plan.steps:
        name = "inference" if step.name == "inference" else f"training, keep={step.name}"
        peak, took = in_bytes(step.peak_bytes), in_time(step.seconds)
        yield f"{name:<22}{peak:>12}{took:>14}  {'yes' if step.fits else 'no'}"
    yield ""
    largest = [("inference", plan.largest_inference)]
    if plan.largest_training is not None:
        largest.append(("training", plan.largest_training))
    yield "largest region batch: " + ", ".join(f"{count or 'none'} in {what}" for what, count in largest)
    if plan.inference.seconds is not None and not plan.measured:
        yield "times from counted operations, rough: --measure (measure=True) runs a few region batches"
    yield plan.advice


def advice_for(plan: "Plan") -> str:
    """One sentence: what to run, or what to change."""
    training = plan.largest_training is not None
    largest = plan.largest_training if plan.largest_training is not None else plan.largest_inference
    what = "a training step" if training else "inference"
    if largest == 0:
        step = plan.steps[1] if training else plan.inference
        sentence = (
            f"{what} does not fit: it needs {in_bytes(step.peak_bytes)} of {in_bytes(plan.memory_bytes)} with "
            f"{_regions(plan)} at a time; {_change(plan)}"
        )
        if training and plan.largest_inference:
            sentence += f"; inference fits, with region_batch={plan.largest_inference}"
        return sentence
    if plan.region_batch > largest:
        return f"{what} fits with region_batch={largest} at most, not with {plan.region_batch}"
    if not training:
        return f"inference fits, with region_batch={plan.region_batch}"
    keep = "all" if plan.steps[-1].fits else "auto"
    return f"training fits, fastest with region_batch={plan.region_batch}, keep={keep!r}"


def _weights(plan: "Plan") -> str:
    millions = f"{plan.weights / 1e6:,.1f} million"
    if plan.largest_training is None:
        return millions
    if plan.trained == plan.weights:
        return f"{millions}, all of them trained"
    return f"{millions}, {plan.trained / 1e6:,.2f} million of them trained"


def _looked_at(plan: "Plan") -> str:
    if plan.largest_training is None or plan.training_regions == plan.regions:
        return f"{plan.regions:,}"
    return f"{plan.regions:,}, while it learns {plan.training_regions:,}"


def _regions(plan: "Plan") -> str:
    return f"{plan.region_batch} region{'s' * (plan.region_batch > 1)}"


def _change(plan: "Plan") -> str:
    if 4 * plan.token_bytes > plan.memory_bytes:
        return "take fewer tokens_per_region, a smaller dim, or an image of lower resolution"
    return "take a smaller region size or region encoder, or a device with more memory"


def in_bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.2f} GB"


def in_time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
