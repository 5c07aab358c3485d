"""Results on disk: a file is either wholly there under its name, or not there at all."""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from xt.errors import OutputError, XTError

# Temporary files begin with a dot and carry this mark, so that a killed process's can be found and removed.
_MARK = ".xt-part-"
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What GDAL's drivers say when a write fails; they name no error number.
_FAILED_WRITE = re.compile(
    r"no space left|disk full|quota exceeded|file too large|write ?(error|failed)"
    r"|failed to write|cannot write|error (while )?writing|TIFFAppendToStrip|TIFFWrite",
    re.IGNORECASE,
)
# And `torch.save` of a file's container, of which it only knows that it is too short.
_FULL = re.compile(r"no space left|disk full|quota|file too large|inline_container", re.IGNORECASE)
# What GDAL leaves beside a file that is well written.
_SIDE_FILES = (".aux.xml", ".ovr", ".ovr.tmp", ".msk")
_NEARLY_NOTHING_BYTES = 1 << 20


@contextmanager
def atomic_path(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to, which becomes `destination` when the block ends well.

    It lies in the same folder (renaming is atomic only within a file system) and has the same suffix (by
    which GDAL and Pillow choose the format). Whatever goes wrong in the block, the temporary file is removed,
    and an older file at `destination` stays as it was.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full. Errors of the block that have
            nothing to do with writing here, such as a damaged source, pass unchanged.
    """
    final = Path(destination)
    temporary = _temporary_for(final)
    try:
        # Created at once: a folder that cannot be written to is reported before hours of work, not after.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise OutputError(_explain(error, final)) from error
    try:
        usual = temporary.stat().st_mode
        yield temporary
        _let_read(temporary, usual)
        _flush_to_disk(temporary)
        os.replace(temporary, final)
    except BaseException as error:
        # Whatever else was begun beside it, too.
        for left in temporary.parent.glob(f"{_escaped(temporary.name)}*"):
            with suppress(OSError):
                left.unlink()
        if isinstance(error, XTError) or not _is_failed_write(error, temporary):
            raise
        raise OutputError(_explain(error, final)) from error
    # By their names: to look through a folder of 100,000 results takes a fifth of a second.
    for ending in _SIDE_FILES:
        with suppress(OSError):
            temporary.with_name(temporary.name + ending).unlink()


@contextmanager
def atomic_folder(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """As `atomic_path`, for a whole folder: a temporary one to write in, which then takes the place of an older."""
    final = Path(destination)
    temporary = _temporary_for(final)
    try:
        temporary.mkdir()
    except OSError as error:
        raise OutputError(_explain(error, final)) from error
    try:
        usual = temporary.stat().st_mode & 0o666
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _let_read(file, usual)
                _flush_to_disk(file)
        older = _temporary_for(final)
        with suppress(FileNotFoundError):
            # A folder cannot be replaced in one step: for a moment there is neither.
            os.replace(final, older)
        os.replace(temporary, final)
        shutil.rmtree(older, ignore_errors=True)
    except Exception as error:
        if isinstance(error, XTError) or not _is_failed_write(error, temporary):
            raise
        raise OutputError(_explain(error, final)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(destination: str | os.PathLike[str], content: bytes | str) -> None:
    """Write all of `content` (text as UTF-8), or nothing; errors as in `atomic_path`."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(destination) as temporary:
        temporary.write_bytes(data)


def check_writable_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder if it is not there and try it by writing a small file.

    Raises:
        OutputError: it cannot be made or written to; says which and what to do.
    """
    folder = Path(path)
    probe = folder / f"{_MARK}{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
    except OSError as error:
        raise OutputError(_explain(error, folder, folder)) from error
    finally:
        with suppress(OSError):
            probe.unlink()
    return folder


@contextmanager
def own_folder(path: str | os.PathLike[str], command: str) -> Iterator[Path]:
    """A folder, made if it is not there, without what killed processes left half-written, and with no other run of `xt
    COMMAND` in it.

    A block that fails before it has written anything leaves no folder that was not there.

    Raises:
        OutputError: another run has it, or it cannot be written to.
    """
    folder = Path(path)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = lock_folder(check_writable_folder(folder), command)
    try:
        remove_leftovers(folder)
        yield folder
    except BaseException:
        # A folder that holds anything stays.
        with suppress(OSError):
            if not set(os.listdir(folder)) - {_lock_name(command)}:
                (folder / _lock_name(command)).unlink(missing_ok=True)
            for place in made:
                place.rmdir()
        raise
    finally:
        if lock is not None:
            lock.close()


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Remove temporary files and folders that a killed process left in `folder`; how many there were.

    Only for a folder that nobody else is writing to at the moment.
    """
    count = 0
    for left in Path(folder).glob(f".*{_MARK}*"):
        with suppress(OSError):
            _remove(left)
            count += 1
    return count


def remove_leftovers_of(destination: str | os.PathLike[str]) -> None:
    """Remove what killed processes left while they wrote this one file or folder; only where nobody is writing it."""
    final = Path(destination)
    beginning = _temporary_for(final).name.split(_MARK)[0]
    for left in final.parent.glob(f"{_escaped(beginning + _MARK)}*"):
        with suppress(OSError):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def lock_folder(folder: str | os.PathLike[str], command: str) -> IO[bytes] | None:
    """Keep other runs of `xt COMMAND` from writing to `folder` until the lock is closed or the process ends.

    Returns:
        the lock; None where the system has none.
    Raises:
        OutputError: another run has it, or the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:
        return None
    path = Path(folder) / _lock_name(command)
    try:
        file = path.open("wb")
    except OSError as error:
        raise OutputError(_explain(error, path)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise OutputError(
            f"another `xt {command}` is writing to {folder} at the moment. Wait for it or choose another folder."
        ) from error
    except OSError:
        # Some network file systems have no locks.
        pass
    return file


def _lock_name(command: str) -> str:
    return f".xt-{command}.lock"


def _temporary_for(final: Path) -> Path:
    # Names are limited to 255 bytes; the suffix must survive, the stem need not.
    stem = final.stem.encode()[:150].decode(errors="ignore")
    return final.parent / f".{stem}{_MARK}{secrets.token_hex(4)}{final.suffix}"


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _let_read(path: Path, usual: int) -> None:
    """Give a file the rights that new files have here: some libraries put one of their own, for nobody else, in its
    place."""
    mode = path.stat().st_mode
    if usual & ~mode:
        path.chmod(stat.S_IMODE(mode | usual))


def _flush_to_disk(path: Path) -> None:
    # Some file systems find out only now that there is no space left.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _is_failed_write(error: BaseException, temporary: Path) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        named = error.filename
        return named is None or os.fsdecode(named).startswith(str(temporary))
    # torch's error is a plain RuntimeError.
    if type(error) is RuntimeError and "inline_container" in str(error):
        return True
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("rasterio", "safetensors_rust"):
        return bool(_FAILED_WRITE.search(str(error))) or _free_bytes(temporary.parent) < _NEARLY_NOTHING_BYTES
    return False


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return _NEARLY_NOTHING_BYTES


def _explain(error: BaseException, path: Path, folder: Path | None = None) -> str:
    folder = path.parent if folder is None else folder
    number = error.errno if isinstance(error, OSError) else None
    full = number in _FULL_DISK or (number is None and _free_bytes(folder) < _NEARLY_NOTHING_BYTES)
    if full or _FULL.search(str(error)):
        return (
            f"Could not write {path}: the disk is full or a size limit was reached "
            f"({_free_bytes(folder) / 1e6:.0f} MB free). Make room or write to another folder; "
            "nothing half-written was left."
        )
    if isinstance(error, FileNotFoundError):
        return (
            f"Could not write {path}: the folder {folder} does not exist. Make it first or write elsewhere."
        )
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return f"Could not write {path}: a part of this path is a file, not a folder. Choose another path."
    if isinstance(error, IsADirectoryError):
        return f"Could not write {path}: there is a folder of this name. Choose another name."
    if isinstance(error, PermissionError) or number == errno.EROFS:
        return f"Could not write {path}: no permission to write in {folder}. Change them or write elsewhere."
    reason = str(error).rstrip(". ")
    return f"Could not write {path}: {reason}. Check the disk, or write to another folder."
