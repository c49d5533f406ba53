"""The list of public weight files is well-formed and agrees with the downloads of jclip."""

import re

import pytest

from jclip.loading import MODELS, SITE
from weight_files.known_weights import find_by_name, find_by_sha256, known_weights


def test_every_entry_is_well_formed_and_its_source_shows_its_hash():
    files = [each.file for each in known_weights()]
    assert len(set(files)) == len(files) and len(files) > 20
    for each in known_weights():
        assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", each.sha256), each
        assert each.source.startswith("https://") and each.source.endswith(each.file.split("/")[-1])
        if "huggingface.co" not in each.source:  # whose page lists the hash
            assert each.sha256 in each.source
        if len(each.sha256) == 8:
            assert each.file.split(".")[0].endswith(f"-{each.sha256}")


def test_openai_files_are_those_that_are_downloaded():
    ours = {each.name: each for each in known_weights() if each.source.startswith(SITE)}
    assert {name: (each.file, each.sha256) for name, each in ours.items()} == MODELS


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("somewhere/ViT-B-32.pt", "ViT-B/32"),
        ("ViT-B-32.pkl", None),
        ("a/clip-vit-base-patch32/pytorch_model.bin", "openai/clip-vit-base-patch32"),
        ("another/pytorch_model.bin", None),
    ],
)
def test_a_file_claims_to_be_one_by_its_name(path, name):
    file = find_by_name(path)
    assert (file and file.name) == name


def test_a_file_is_known_by_its_whole_hash_or_the_digits_there_are():
    sha256 = MODELS["RN50"][1]
    assert find_by_sha256(sha256).file == "RN50.pt"
    assert find_by_sha256(sha256[:-1] + "0") is None
    assert find_by_sha256("f37072fd" + "0" * 56).file == "resnet18-f37072fd.pth"
    assert find_by_sha256("") is None
