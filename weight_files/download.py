"""Downloading a large file whole or not at all: resumed, checked, by one process at a time.

Needs no package until bytes come: the doctor reads the modules that stand on this one first.
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

TIMEOUT_S = 30.0  # without a byte
PIECE = 1 << 20  # bytes read at once
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}  # as `hashlib` and as people call them


def download_file(
    name: str,
    url: str,
    target: Path,
    digest: str,
    algorithm: str = "sha256",
    quiet: bool | None = False,
) -> None:
    """Downloads `url` to `target`, of which `digest` is the digest; `name` is what errors call it.

    What comes goes to `<target>.part`, goes on where it was interrupted, and takes its name once
    its digest is right; a second process waits for the first. Missing folders are made. `quiet` is
    tqdm's `disable`: None draws a progress bar on a terminal only. Raises ValueError that says
    which file to put where, by which digest, if the download fails or brings something else.
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
        while not _fetch(url, file, quiet):  # the connection broke: go on while that brings bytes
            if file.tell() <= before:
                raise OSError(f"the connection breaks at byte {file.tell()}")
            before = file.tell()
        file.flush()
        found = digest_of(part, algorithm)
        if found != digest:
            part.unlink()
            raise OSError(f"what came has {ALGORITHMS[algorithm]} {found}")
        os.replace(part, target)


def _fetch(url: str, file: BinaryIO, quiet: bool | None) -> bool:
    """Appends what is missing to `file`; True once the server has no more."""
    from tqdm import tqdm  # here, for the doctor reads this module before anything is installed

    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # all of it is there; the digest decides
        raise
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:  # the server sends it from the start
            start = file.seek(0)
            file.truncate()
        total = start + (response.length or 0)
        title = Path(file.name).name.removesuffix(".part")
        size = {"total": total, "initial": start, "unit": "B", "unit_scale": True}
        with tqdm(**size, desc=title, disable=quiet) as bar:
            while piece := response.read(PIECE):
                file.write(piece)
                bar.update(len(piece))
    return file.tell() >= total
