"""A main job that is killed and started again ends in the bytes of an unbroken one."""

import re
import subprocess
import sys

from fewshot.stages.pipeline import read_record
from runtime.paths import ROOT
from scripts import make_demo
from tests.helpers.tiny_clip import write_tiny_clip


def interrupt(times, seed, out, command):
    """Runs `interrupt` in a process of its own, because Jittor ends one whose child is killed."""
    words = [
        sys.executable,
        ROOT / "tests/robustness/interrupt.py",
        "--times",
        times,
        "--seed",
        seed,
    ]
    words += ["--out", out, *([] if "--" in command else ["--"]), *command]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)


def test_a_killed_main_job_ends_in_the_same_bytes(tmp_path):
    make_demo.make(tmp_path / "demo", 0)
    write_tiny_clip(tmp_path / "clip.pkl")
    command = [sys.executable, ROOT / "train.py", "clip_fewshot", "--device", "cpu"]
    command += ["--data", tmp_path / "demo", "--weights", tmp_path / "clip.pkl"]
    command += ["--auxiliary", tmp_path / "clip.pkl", "--views", "2"]
    command += ["--parts", "{out}/parts", "--runs", "{out}/runs", "--cache", "{out}/cache"]
    command += ["--prompt.epochs", "8", "--lora.epochs", "8", "--lora.batch_size", "7"]
    out = tmp_path / "out"
    ended = interrupt(3, 1633, out, command)  # after .54, .70 and .87 of the time
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "interrupt: 3 of 3 kills ended in the same bytes" in ended.stdout
    left = {path.relative_to(out / "kill3").as_posix() for path in out.glob("kill3/**/*.pkl")}
    noted = read_record(out / "kill3/parts")
    assert set(noted) >= {"text", "prompt", "lora", "head", "channel", "auxiliary"}
    checkpoints = {f"runs/{stage}/checkpoint.pkl" for stage in ("prompt", "lora")}
    assert left == {f"parts/{stage}.pkl" for stage in noted} | checkpoints
    on_disk = [line.count(".pkl") for line in re.findall(r"on disk .*: the same", ended.stdout)]
    assert any(0 < count < len(left) for count in on_disk)  # a kill fell amid the stages


def test_kills_in_a_row_meet_one_folder(tmp_path):
    counts = 'mkdir -p "$0"; echo x >> "$0/starts"; sleep 0.3; echo done > "$0/result.txt"'
    command = ["bash", "-c", counts, "{out}"]
    ended = interrupt(5, 0, tmp_path / "out", ["--row", "3", "--", *command])
    assert ended.returncode == 0 and "5 of 5 kills ended" in ended.stdout, ended.stdout
    starts = [len((tmp_path / f"out/kill{n}/starts").read_text()) // 2 for n in (1, 4)]
    assert starts == [4, 3]  # each kill's, and the last to the end


def test_a_command_that_forgets_is_found_out(tmp_path):
    script = 'if [ -e "$0/begun" ]; then echo forgot; else echo whole; fi > "$0/result.txt"'
    forgetful = f'mkdir -p "$0"; {script}; touch "$0/begun"; sleep 0.5'
    ended = interrupt(1, 0, tmp_path / "out", ["bash", "-c", forgetful, "{out}"])
    assert ended.returncode == 1 and "on disk result.txt: result.txt differ" in ended.stdout
    assert "interrupt: 0 of 1 kills ended in the same bytes" in ended.stdout


def test_a_command_that_fails_and_a_used_folder_are_one_message(tmp_path):
    for message in ("the command ended with status 3: see .*first.log", "is not empty"):
        ended = interrupt(1, 0, tmp_path, ["bash", "-c", "exit 3"])
        assert ended.returncode == 1 and re.search(message, ended.stderr)
        assert "Traceback" not in ended.stderr
