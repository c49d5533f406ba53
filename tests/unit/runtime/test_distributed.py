"""Ranks by the environment of mpirun: shares, the main process, and a block as one process."""

import numpy as np
import pytest

from runtime.distributed import (
    all_gather,
    is_main_process,
    local_range,
    rank,
    single_process,
    world_size,
)
from runtime.files import atomic_write


def test_local_ranges_cover_everything_once(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")
    for total, unit in ((23, 1), (3, 1), (0, 1), (23, 4), (64, 32)):
        covered = []
        for number in range(5):
            monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(number))
            share = local_range(total, unit)
            assert not share or share.start % unit == 0
            covered += share
        assert covered == list(range(total))


@pytest.fixture
def fourth_of_five(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")


def test_single_process_is_a_run_of_its_own(fourth_of_five, tmp_path):
    with atomic_write(tmp_path / "shared.txt") as file:
        file.write("only the first rank writes")
    assert (rank(), world_size(), is_main_process()) == (3, 5, False)
    with single_process():
        assert (rank(), world_size(), is_main_process()) == (0, 1, True)
        with atomic_write(tmp_path / "own.txt") as file:
            file.write("every process writes")
    assert (rank(), [path.name for path in tmp_path.iterdir()]) == (3, ["own.txt"])


def test_one_process_gathers_its_own_array():
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert all_gather(array, 3, 0) is array
