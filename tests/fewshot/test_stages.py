import numpy as np
import pytest

from fewshot.stages import Stage, read_part


@pytest.fixture
def made():
    return []


def stage(folder, inputs, made):
    def make():
        made.append(dict(inputs))
        return {"weight": np.arange(3.0) * inputs["n"]}

    return Stage("head", folder / "parts" / "head.pkl", inputs, make)


def test_a_finished_stage_is_kept_until_its_inputs_change(tmp_path, made):
    first = stage(tmp_path, {"n": 1}, made).run()
    again = stage(tmp_path, {"n": 1}, made).run()
    assert len(made) == 1 and first["weight"].tobytes() == again["weight"].tobytes()
    changed = stage(tmp_path, {"n": 2}, made).run()
    assert len(made) == 2 and changed["weight"].tolist() == [0, 2, 4]
    stage(tmp_path, {"n": 2}, made).run(fresh=True)
    assert len(made) == 3


def test_the_same_inputs_give_the_same_bytes(tmp_path, made):
    for name in "ab":
        stage(tmp_path / name, {"n": 1}, made).run()
    files = [(tmp_path / name / "parts/head.pkl").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_a_stage_that_fails_leaves_the_old_part(tmp_path, made):
    stage(tmp_path, {"n": 1}, made).run()
    kept = (tmp_path / "parts/head.pkl").read_bytes()
    broken = Stage("head", tmp_path / "parts/head.pkl", {"n": 5}, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.run()
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["head.pkl"]
    assert (tmp_path / "parts/head.pkl").read_bytes() == kept


def test_a_part_is_asked_for_by_its_stage(tmp_path, made):
    stage(tmp_path, {"n": 1}, made).run()
    path = tmp_path / "parts/head.pkl"
    assert read_part(path, "head")["weight"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="head.pkl: holds head, but 'text' is needed"):
        read_part(path, "text")
    with pytest.raises(ValueError, match="text.pkl is missing: run `bash train.sh`"):
        read_part(tmp_path / "text.pkl", "text")
