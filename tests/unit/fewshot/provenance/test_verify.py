"""The comparison of two runs names what differs; it is empty if nothing does."""

import json

import pytest

from fewshot.provenance.verify import compare_results, read_manifest
from weight_files.hashing import sha256_of

LINES = ("a.jpg 1 2 3 4 5", "b.jpg 2 1 3 4 5", "c.jpg 3 1 2 4 5", "d.jpg 4 1 2 3 5")


def run(folder, lines=LINES, **changes):
    """A folder with a result and its manifest; returns the manifest's path."""
    folder.mkdir(exist_ok=True)
    (folder / "result.txt").write_text("".join(f"{line}\n" for line in lines))
    record = {
        "config": {},
        "inputs": {"weights": "aa", "parts": {"head.pkl": "bb", "lora.pkl": "cc"}},
        "result": {"result.txt": sha256_of(folder / "result.txt"), "result.zip": "z"},
        "versions": {"jittor": "1"},
        "commit": "c0",
        "device": "cpu",
    }
    (folder / "manifest.json").write_text(json.dumps(record | changes))
    return folder / "manifest.json"


def test_the_same_result_is_identical_whatever_the_versions(tmp_path):
    first = run(tmp_path / "a")
    run(tmp_path / "b", versions={"jittor": "2"}, commit="c1")
    assert compare_results(first, tmp_path / "b") == []


def test_other_lines_are_quoted_with_their_likely_causes(tmp_path):
    first = run(tmp_path / "a")
    inputs = {"weights": "aa", "parts": {"head.pkl": "bb", "lora.pkl": "other"}}
    changed = (LINES[0], *(line.replace("5", "6") for line in LINES[1:]))
    run(tmp_path / "b", [*changed, "e.jpg 1 2 3 4 5"], inputs=inputs, device="cuda")
    assert compare_results(first, tmp_path / "b") == [
        "result.txt: the bytes differ",
        "line 2: was 'b.jpg 2 1 3 4 5', is now 'b.jpg 2 1 3 4 6'",
        "line 3: was 'c.jpg 3 1 2 4 5', is now 'c.jpg 3 1 2 4 6'",
        "line 4: was 'd.jpg 4 1 2 3 5', is now 'd.jpg 4 1 2 3 6'",
        "and 2 more lines",  # the fifth, and the end of the file behind it
        "device: was cpu, is now cuda",
        "inputs: parts: lora.pkl: was cc, is now other",
    ]


def test_no_cause_is_said_too(tmp_path):
    first = run(tmp_path / "a")
    run(tmp_path / "b", LINES[:3])
    assert compare_results(first, tmp_path / "b")[-1].startswith("nothing else differs: inputs, ")


def test_the_zip_counts_too(tmp_path):
    hashes = [{"result.txt": "a", "result.zip": zipped} for zipped in "bc"]
    first = run(tmp_path / "a", result=hashes[0])
    run(tmp_path / "b", result=hashes[1])
    assert compare_results(first, tmp_path / "b")[0] == "result.zip: the bytes differ"


def test_a_result_that_was_replaced_cannot_be_compared_by_lines(tmp_path):
    first = run(tmp_path / "a")
    (tmp_path / "a/result.txt").write_text("something else\n")
    run(tmp_path / "b", LINES[1:])
    assert "not the result of that manifest" in compare_results(first, tmp_path / "b")[1]


def test_an_old_manifest_is_read_by_its_old_names(tmp_path):
    first = run(tmp_path / "a", looks={"tta": "mta"})
    assert read_manifest(first)["inference"] == {"tta": "mta"}


EMPTY = {"config": {}, "inputs": {}, "versions": {}, "result": {}}
BROKEN = [None, "", "{}", "[1]", "no JSON", '{"config": {}}', json.dumps(EMPTY)]
BROKEN.append(json.dumps(EMPTY | {"config": [], "result": {"result.txt": "", "result.zip": ""}}))


@pytest.mark.parametrize("content", BROKEN)
def test_what_is_no_manifest_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    with pytest.raises(ValueError, match="m.json: no manifest of a test run"):
        read_manifest(tmp_path / "m.json")
