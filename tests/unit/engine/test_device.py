"""Which device and which arithmetic a run gets."""

import pytest

from engine.device import precision_in_use, use_device
from kernels import cpu_operator


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Restores the precision after each test."""
    monkeypatch.setattr(cpu_operator, "precision", cpu_operator.precision)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_what_the_processor_multiplies(monkeypatch, has_bf16):
    monkeypatch.setattr(cpu_operator, "multiplies_bf16", lambda: has_bf16)
    assert use_device("cpu", "auto") == "cpu"
    assert precision_in_use() == ("bf16" if has_bf16 else "fp32")
    use_device("cpu")
    assert precision_in_use() == "fp32"
    use_device("cpu", kernels="jittor")
    assert precision_in_use() == "plain"


def test_bf16_is_refused_where_it_would_be_emulated(monkeypatch):
    monkeypatch.setattr(cpu_operator, "multiplies_bf16", lambda: False)
    with pytest.raises(ValueError, match="AVX-512-bf16, or a GPU from sm_80 on: --precision fp32"):
        use_device("cpu", "bf16")


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="device is 'tpu', but must be auto, cpu or cuda"):
        use_device("tpu")
