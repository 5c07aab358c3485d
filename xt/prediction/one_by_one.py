"""Work on many images, one after the other."""

from collections.abc import Callable, Sequence

from xt.errors import OutputError, XTError
from xt.progress import Progress


def one_by_one(images: Sequence[str], work: Callable[[str], None], progress: Progress) -> dict[str, str]:
    """One broken image, however it is broken, does not stop the others.

    Returns:
        the images that failed, with the reason.
    Raises:
        OutputError: the next image would meet the same full disk.
    """
    failed: dict[str, str] = {}
    overall = progress.add("all", total=len(images), unit="images") if len(images) > 1 else None
    for done, image in enumerate(images, 1):
        try:
            work(image)
        except OutputError:
            raise
        except Exception as error:
            failed[image] = str(error) if isinstance(error, XTError) else f"{type(error).__name__}: {error}"
            progress.print(f"failed: {image}")
        if overall is not None:
            overall.update(done)
    return failed
