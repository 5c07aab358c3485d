"""`xt push RUN OWNER/NAME`: a model on the Hugging Face hub, with a card written from its run."""

import argparse
from pathlib import Path

EXAMPLES = (
    "xt push runs/first lab/slides --license cc-by-4.0 --dry-run looked-at",
    "xt push runs/first lab/slides --private",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run folder, or a model.safetensors or a .ckpt in one"
    )
    parser.add_argument("repository", metavar="OWNER/NAME", help="of the hub; made if it is not there")
    parser.add_argument(
        "--license", metavar="NAME", help="of the model, as the hub calls it: apache-2.0, cc-by-nc-4.0 ..."
    )
    parser.add_argument(
        "--evaluation", type=Path, metavar="DIR",
        help="what `xt evaluate RUN TABLE --out DIR` wrote: metrics with intervals and the confusion matrix for the "
        "card; without it RUN/evaluation if that is there, else the run's own metrics",
    )  # fmt: skip
    parser.add_argument(
        "--private", action="store_true", default=None, help="a new repository is for its owner alone"
    )
    parser.add_argument("--message", metavar="TEXT", help="of the commit")
    parser.add_argument(
        "--whole", action="store_true",
        help="leave nothing of the weights out, not even those of a published region encoder that were not trained",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", type=Path, metavar="DIR",
        help="only write what would be pushed, README.md and all, to a folder to look at",
    )  # fmt: skip
    parser.epilog = (
        "What goes: model.safetensors, README.md (the card), config.yaml with the paths of this machine cut to file "
        "names, metrics.json, data.json, confusion.png. Never images, tables or checkpoints. Then anybody who may can "
        "say hf://OWNER/NAME wherever a run is asked for. Exit status: 0 done, 2 refused."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.model.sharing import EVALUATION, Sharing, named, push, write_shared
    from xt.training.checkpoints import load_trained

    repository = named(arguments.repository)
    model, _ = load_trained(arguments.run)
    folder = _folder_of_run(arguments.run)
    sharing = Sharing(
        run=folder,
        evaluation=arguments.evaluation,
        license=arguments.license,
        private=arguments.private,
        message=arguments.message,
        whole=arguments.whole,
    )
    if arguments.evaluation is None and not (folder / EVALUATION).is_dir():
        print(
            f"without a confusion matrix: `xt evaluate {arguments.run} TABLE --out {folder / EVALUATION}` makes one"
        )
    if arguments.dry_run is not None:
        write_shared(model, repository, sharing, arguments.dry_run)
        print(f"wrote {arguments.dry_run}, which would go to {repository}")
        return 0
    place = push(model, repository, sharing)
    print(f"{place.repository} is there, revision {place.revision}")
    print(f"xt predict hf://{place.repository} FILES --out DIR")
    return 0


def _folder_of_run(path: Path) -> Path:
    """A run's folder, of it or of a file in it; a checkpoint lies one folder deeper."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == "checkpoints" else folder
