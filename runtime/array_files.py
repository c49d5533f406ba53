"""Files of NumPy arrays that this kit writes and reads back."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from runtime.files import atomic_write


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes the arrays to an .npz file, whole or not at all."""
    content = io.BytesIO()  # np.savez would complain a second time about a full disk
    np.savez(content, **arrays)
    with atomic_write(path, "wb") as file:
        file.write(content.getbuffer())


@contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an .npz file. Raises ValueError naming it if it is damaged or cut short."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({error}); delete it and run again") from error
