"""What users can be told, as a tree.

Every message is one clear sentence or two: what was expected, what came (value, shape, file), what to do. Each class
also derives from the built-in a caller would catch anyway.
"""

import re

_OPTION = re.compile(r"<(\w+)>")


class XTError(Exception):
    """Anything that `xt` reports to its user; the command line prints it without a traceback."""


class ImageError(XTError, OSError):
    """An image file is missing, not an image, damaged, or cannot be read by window."""


class PixelError(XTError, ValueError):
    """Pixels were read but their values cannot be used, such as NaN where no nodata value was declared."""


class ShapeError(XTError, ValueError):
    """A size, a number of channels or a tensor's shape does not fit."""


class ConfigError(XTError, ValueError):
    """A setting is unknown, out of range, or does not fit another setting."""


class OptionError(ConfigError):
    """An option of a call that is also a command has no meaning there or a wrong value.

    Args:
        message: names options in angle brackets, as in "<least_score> must be in [0, 1]".
    """

    def __init__(self, message: str) -> None:
        super().__init__(_OPTION.sub(r"\1", message))
        self.message = message

    @property
    def as_typed(self) -> str:
        """With options as the command line spells them: "--least-score must be in [0, 1]"."""
        return _OPTION.sub(lambda option: f"--{option[1].replace('_', '-')}", self.message)


class TableError(XTError, ValueError):
    """A table of images and labels lacks a column, a row or a known label."""


class CheckpointError(XTError, ValueError):
    """A file is not a checkpoint, or not one of this model."""


class OutputError(XTError, OSError):
    """A result could not be written; nothing half-written was left behind."""


class MissingPackageError(XTError, ImportError):
    """An optional package is needed for this and not installed."""


class SlowImageWarning(UserWarning):
    """A large file is stored so that every window costs a large part of it; `xt tile` converts it."""


class DataWarning(UserWarning):
    """Images or labels say something that is probably not meant, though work with them can go on."""


class DeviceMemoryError(XTError, RuntimeError):
    """Not even one region at a time fits into the device's memory."""


class RegionBatchWarning(UserWarning):
    """The device ran out of memory; the work goes on with fewer regions at a time."""
