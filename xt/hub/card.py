"""The card of a model: what its page on the hub says of it, written from what a run has left."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MOST_NAMES = 60


@dataclass(frozen=True, kw_only=True)
class Described:
    """What is known of a model that is given to others.

    Attributes:
        repository: "owner/name".
        config: the fields of its `ModelConfig`.
        reads: which images it is for, and how much of them it reads.
        kind: what the hub calls such models, as "image-classification"; None for none.
        looks_at: names and values, a line each, of what it takes and how it looks at it.
        encoder: sentences about its region encoder's weights and their licence.
        base: repository that these are of; None where they are of none.
        license: of the model, as the hub calls it; None where its owners have named none.
        data: what `data.json` of its run says; empty where there is none.
        metrics: of the images that it was measured on, as `xt evaluate` writes them; empty where it was not.
        measured_on: what these images are, in words.
        picture: file name of its confusion matrix; None where there is none.
    """

    repository: str
    config: Mapping[str, Any]
    reads: str
    kind: str | None = None
    looks_at: Sequence[tuple[str, str]] = ()
    encoder: Sequence[str] = ()
    base: str | None = None
    license: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    measured_on: str = ""
    picture: str | None = None


def card_text(said: Described) -> str:
    """Markdown behind the lines of YAML that the hub sorts models by."""
    parts = [_heading(said), _use(said), _looks_at(said), _encoder(said), _trained_on(said), _measured(said)]
    return f"---\n{_for_the_hub(said)}\n---\n" + "\n".join("\n".join([*part, ""]) for part in parts if part)


def _for_the_hub(said: Described) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=said.license,
        library_name="xt",
        pipeline_tag=said.kind,
        base_model=said.base,
        tags=["xt", "large-images", str(said.config["head"])],
    )
    return data.to_yaml()


def _heading(said: Described) -> list[str]:
    head, encoder, context = (said.config[name] for name in ("head", "encoder", "context"))
    return [
        f"# {said.repository.partition('/')[2]}",
        "",
        f"A model of [xT](https://arxiv.org/abs/2403.01915) for {said.reads}: {cell(head)}, by the "
        f"region encoder `{encoder}` and the context encoder `{context}`.",
    ]


def _use(said: Described) -> list[str]:
    return [
        "## How to use it",
        "```python",
        "import xt",
        "",
        f'model = xt.load_model("hf://{said.repository}")  # to go on with in PyTorch',
        f'results = xt.predict("hf://{said.repository}", "images/", out="found")  # answers and pictures as files',
        "```",
        f"or `xt predict hf://{said.repository} FILES --out DIR`; `@REVISION` behind the name keeps one version.",
    ]


def _looks_at(said: Described) -> list[str]:
    rows = [(name, value) for name, value in said.looks_at]
    return ["## What it looks at", *_table(["", ""], rows)] if rows else []


def _encoder(said: Described) -> list[str]:
    lines = ["## Region encoder and licence", *said.encoder]
    if said.license is None:
        lines.append("The owners of this repository have named no licence for the model itself.")
    return lines


def _trained_on(said: Described) -> list[str]:
    parts: Mapping[str, Mapping[str, Any]] = said.data.get("parts", {})
    if not parts:
        return []
    lines = ["## Trained on", f"Divided {cell(said.data['split'])}.", ""]
    columns = [name for name in ("images", "cases", "groups") if any(name in part for part in parts.values())]
    rows = [[name, *(_number(part.get(column)) for column in columns)] for name, part in parts.items()]
    lines += _table(["part", *columns], rows)
    classes = list(dict.fromkeys(name for part in parts.values() for name in part.get("classes", {})))
    if classes:
        shown = [
            [name, *(_number(part.get("classes", {}).get(name, 0)) for part in parts.values())]
            for name in classes[:_MOST_NAMES]
        ]
        lines += ["", *_table(["class", *parts], shown)]
        if len(classes) > _MOST_NAMES:
            lines += ["", f"and {len(classes) - _MOST_NAMES:,} classes more"]
    return lines


def _measured(said: Described) -> list[str]:
    if not said.metrics:
        return []
    lines = [
        "## Measured",
        f"On {said.measured_on}; intervals of 95 %.",
        "",
        *_table(["metric", "value", "interval"], list(_metrics(said.metrics))),
    ]
    if said.picture is not None:
        lines += ["", f"![confusion matrix: rows are the truth, columns the answers]({said.picture})"]
    return lines


def _metrics(metrics: Mapping[str, Any]) -> Iterator[list[str]]:
    """Those over all classes; there may be thousands of others."""
    for name, value in metrics.items():
        if "(" in name or name.endswith("_interval") or not isinstance(value, float):
            continue
        interval = metrics.get(f"{name}_interval")
        yield [name, f"{value:.4g}", "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(cell, line)) + " |" for line in lines]


def cell(text: Any) -> str:
    """A text that means nothing to Markdown or HTML, in one line."""
    plain = " ".join(str(text).split())
    for mark in ("\\", "|", "*", "`", "[", "]"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}"
