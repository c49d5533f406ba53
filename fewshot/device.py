"""Which device Jittor computes on."""

import jittor as jt


def use_device(name: str) -> str:
    """Switches Jittor to "cpu", "cuda" or, for "auto", to CUDA where there is one; returns "cpu" or
    "cuda".

    Raises ValueError where CUDA is asked for and Jittor was built without it.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {name!r}, but must be auto, cpu or cuda")
    if name == "cuda" and not jt.has_cuda:
        raise ValueError("no usable CUDA: `python -m runtime.doctor` says what is missing")
    chosen = "cuda" if jt.has_cuda and name != "cpu" else "cpu"
    jt.flags.use_cuda = int(chosen == "cuda")
    if chosen == "cuda":
        jt.cudnn.set_max_workspace_ratio(0.05)  # else a quarter of the GPU's memory
    return chosen
