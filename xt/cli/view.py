"""`xt view FILES... | FOUND`: images in a browser, with what was found, labelled and corrected on top."""

import argparse

EXAMPLES = (
    "xt view slides/one.tif slides/two.tif",
    "xt view new/seven.tif --port 8765 --no-browser",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="FILES|FOUND",
        help='images, folders and globs of them, a stack as "VH.tif|VV.tif"; or a folder that xt predict wrote',
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="MODEL", help="a run, to predict what is in view and say what it leaned on"
    )
    parser.add_argument(
        "--labels", metavar="TABLE", help="a table of the images' labels, to see and to correct"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="HOST",
        help="let other machines look, which reach this one by that name or address (default: this machine only)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: any that is free")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def run(arguments: argparse.Namespace) -> int:
    from xt.viewer.view import view

    with view(
        arguments.images,
        model=arguments.model,
        labels=arguments.labels,
        host=arguments.host,
        port=arguments.port,
    ) as shown:
        count = len(shown.viewer.entries)
        print(f"{count} image{'s' if count != 1 else ''} at {shown.address}", flush=True)
        if shown.server.is_open_to_others:
            print(
                f"Open to others: whoever reaches this machine at port {shown.server.port} and knows the address "
                "may look and correct."
            )
        print("Ctrl-C ends it.", flush=True)
        if not arguments.no_browser:
            shown.open_browser()
        try:
            shown.wait()
        except KeyboardInterrupt:
            print()
    return 0
