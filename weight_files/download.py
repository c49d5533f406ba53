"""Downloads a large file whole or not at all: resumed, verified, by one process at a time.

Needs no package before the download starts, because the doctor imports it from a bare interpreter.
"""

import fcntl
import http.client
import os
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from weight_files.hashing import digest_of

TIMEOUT_S = 30.0  # that may pass without a byte
CHUNK = 1 << 20  # bytes read at once
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}  # names of `hashlib`, and for messages


def download_file(
    name: str,
    url: str,
    target: Path,
    digest: str,
    algorithm: str = "sha256",
    quiet: bool | None = False,
) -> None:
    """Downloads `url` to `target` and verifies its hash; `name` stands for it in error messages.

    The bytes go to `<target>.part`. A download that was interrupted goes on from there, and the
    file gets its name once its hash is `digest`. A second process waits for the first. Missing
    folders are made. `quiet` is tqdm's `disable`: None draws a progress bar on a terminal only.
    Raises ValueError if the download fails or the hash is wrong. Its message says which file to
    put where.
    """
    try:
        _download(url, target, digest, algorithm, quiet)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(
            f"{name} could not be downloaded from {url} ({error}). Run again to go on, "
            f"or put that file at {target} yourself ({ALGORITHMS[algorithm]} {digest})."
        ) from error


def _download(url: str, target: Path, digest: str, algorithm: str, quiet: bool | None) -> None:
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if target.is_file():  # another process was first; its part became the target
            return
        before = -1
        while not _fetch(url, file, quiet):  # the connection broke: go on as long as bytes come
            if file.tell() <= before:
                raise OSError(f"the connection breaks at byte {file.tell()}")
            before = file.tell()
        file.flush()
        actual = digest_of(part, algorithm)
        if actual != digest:
            part.unlink()
            raise OSError(f"the downloaded file has {ALGORITHMS[algorithm]} {actual}")
        os.replace(part, target)


def _fetch(url: str, file: BinaryIO, quiet: bool | None) -> bool:
    """Appends the missing bytes to `file`; returns whether the server has no more."""
    from tqdm import tqdm  # here, because the doctor imports this module without packages

    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # all bytes are there; the hash decides
        raise
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:  # the server sends it from the start
            start = file.seek(0)
            file.truncate()
        total = start + (response.length or 0)
        title = Path(file.name).name.removesuffix(".part")
        size = {"total": total, "initial": start, "unit": "B", "unit_scale": True}
        with tqdm(**size, desc=title, disable=quiet) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return file.tell() >= total
