"""The GPU's attention without a GPU: its threads run as CPU threads, and nvcc compiles it."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kernels import attention
from scripts.check_device import attention_in_float64

pytestmark = pytest.mark.slow

HEADER = Path(attention.__file__).parent / "attention_cuda.hpp"
EMULATION = """
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <thread>
#include <vector>
#define __global__
#define __device__
#define __shared__ static  // one block runs at a time
#define __launch_bounds__(count)
struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx, blockDim;
static pthread_barrier_t barrier;
static void __syncthreads() { pthread_barrier_wait(&barrier); }
static float rsqrtf(float x) { return 1 / sqrtf(x); }
#include HEADER

template <class F>
void launch(unsigned blocks, unsigned threads, F kernel) {
    for (unsigned block = 0; block < blocks; block++) {
        pthread_barrier_init(&barrier, nullptr, threads);
        std::vector<std::thread> all;
        for (unsigned i = 0; i < threads; i++)
            all.emplace_back([=] {
                threadIdx = {i}, blockIdx = {block}, blockDim = {threads};
                kernel();
            });
        for (auto& each : all) each.join();
        pthread_barrier_destroy(&barrier);
    }
}

int main(int count, char** arguments) {  // sequences, length, heads, causal; qkv and dy on stdin
    int n = atoi(arguments[1]), l = atoi(arguments[2]), h = atoi(arguments[3]);
    cuda_attention::Setting s{n, l, h, atoi(arguments[4])};
    size_t size = (size_t)n * l * h * NUMBERS;
    std::vector<float> qkv(3 * size), dy(size), out(size), dqkv(3 * size);
    std::vector<float> statistics(2 * n * h * l);
    if (fread(qkv.data(), 4, 3 * size, stdin) != 3 * size) return 1;
    if (fread(dy.data(), 4, size, stdin) != size) return 1;
    launch(n * h, s.threads(), [&] {
        cuda_attention::forward<NUMBERS>(s, qkv.data(), out.data());
    });
    launch(n * h, s.threads(), [&] {
        cuda_attention::backward<NUMBERS>(s, qkv.data(), dy.data(), dqkv.data(), statistics.data());
    });
    fwrite(out.data(), 4, size, stdout);
    fwrite(dqkv.data(), 4, 3 * size, stdout);
}
"""
CALLS = """
#include <map>
#include <string>
#include HEADER
struct Var { long shape[3]; };  // what Jittor gives the code of an operator
void call(Var* in0, float* in0_p, float* in1_p, float* out0_p, float* out1_p,
          std::map<std::string, double> data) {
    { FORWARD }
    { BACKWARD }
}
"""
FIXED = ["setarch", "-R"]  # no random addresses, with which TSan of GCC 12 fails now and then


@pytest.fixture(scope="module", params=[16, 64])
def emulated(request, tmp_path_factory) -> tuple[list, int]:
    """Returns (the program's command, numbers per head).

    If addresses may be fixed, TSan watches for races between threads.
    """
    folder, head = tmp_path_factory.mktemp("emulated"), request.param
    (folder / "main.cc").write_text(EMULATION)
    watched = subprocess.run([*FIXED, "true"], capture_output=True).returncode == 0
    options = ["-std=c++17", "-O1", "-pthread", *["-fsanitize=thread"] * watched]
    defines = [f"-DNUMBERS={head}", f"-DHEADER={json.dumps(str(HEADER))}"]
    command = ["g++", *options, *defines, "-o", "program", "main.cc"]
    subprocess.run(command, cwd=folder, check=True)
    return [*FIXED * watched, folder / "program"], head


@pytest.mark.parametrize(
    ("length", "causal"),
    [(1, False), (50, False), (24, True), (33, True), (150, False), (150, True)],
)
def test_values_gradients_and_no_race(emulated, length, causal):
    """Covers one tile and several, fewer rows than threads and more; TSan fails at a race."""
    program, head = emulated
    n, heads = 2, 2
    rng = np.random.default_rng(length)
    qkv = rng.normal(0, 2, (n, length, 3 * heads * head)).astype(np.float32)
    dy = rng.normal(0, 1, (n, length, heads * head)).astype(np.float32)
    arguments = [str(each) for each in (n, length, heads, int(causal))]
    done = subprocess.run(
        [*program, *arguments], input=qkv.tobytes() + dy.tobytes(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    actual = np.frombuffer(done.stdout, np.float32)
    out, dqkv = attention_in_float64(qkv, dy, heads, causal)
    # sums of up to 150 products of 64 numbers, in fp32
    np.testing.assert_allclose(actual[: out.size], out.ravel(), rtol=0, atol=2e-5)
    np.testing.assert_allclose(actual[out.size :], dqkv.ravel(), rtol=0, atol=1e-4)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is missing")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_nvcc_compiles_it(tmp_path, arch):
    """Compiles the kernels and the code that starts them, as Jittor does.

    It would be an error to use more shared memory than the 48 kB that every GPU has.
    """
    source = CALLS.replace("HEADER", json.dumps(str(HEADER)))
    for name in ("FORWARD", "BACKWARD"):
        arguments = name.lower(), attention.MAX_GPU_HEAD, getattr(attention, f"CUDA_{name}")
        source = source.replace(name, attention.CUDA_CODE % arguments)
    (tmp_path / "calls.cu").write_text(source)
    options = ["-std=c++14", "--use_fast_math", f"-arch={arch}", "-c", "-o", "calls.o"]
    done = subprocess.run(
        ["nvcc", *options, "calls.cu"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
