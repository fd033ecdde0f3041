"""Write files whole or not at all."""

import os
import tempfile
from pathlib import Path

from hw.errors import UserError


def write_atomic(path: Path | str, content: str | bytes) -> Path:
    """Write ``content`` to a temporary name beside ``path``, then rename: a reader never sees half a file.

    Creates missing folders. Raises UserError with one line where the file cannot be written (read-only
    place, full disk); what was there before stays.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path
