"""The edits that CUDA 13, cuDNN 9 and CCCL 3 need in the sources of Jittor 1.3.11, as data.

Jittor's reader of NumPy 2 arrays has no edit. The kit pins NumPy below 2, as Jittor itself does, so
that code never runs. The recurrent operators of cuDNN are removed (`REMOVED`), because cuDNN 9
dropped their interface and no network of the kit uses one.
"""

from dataclasses import dataclass
from pathlib import Path

JITTOR_VERSION = "1.3.11.0"
REINSTALL = f"pip install --force-reinstall --no-deps jittor=={JITTOR_VERSION}"


@dataclass(frozen=True)
class Edit:
    """One replacement in `file` (below site-packages), in which `before` occurs `count` times."""

    file: str
    before: str
    after: str
    count: int = 1


CUDNN = "jittor/extern/cuda/cudnn"
CUBLAS = "jittor/extern/cuda/cublas/ops"
HELPER = "jittor/extern/cuda/inc/helper_cuda.h"
WHERE = "jittor/extern/cuda/cub/ops/cub_where_op.cc"
LIMITS = "jittor/src/misc/cuda_limits.h"

REMOVED = (
    f"{CUDNN}/inc/cudnn_rnn_descriptor.h",
    f"{CUDNN}/src/cudnn_rnn_descriptor.cc",
    f"{CUDNN}/ops/cudnn_rnn_op.h",
    f"{CUDNN}/ops/cudnn_rnn_op.cc",
    f"{CUDNN}/ops/cudnn_rnn_backward_x_op.h",
    f"{CUDNN}/ops/cudnn_rnn_backward_x_op.cc",
)

COMPILER = (
    # CCCL 3 (cub, thrust) needs C++17.
    Edit(
        "jittor/compiler.py",
        'nvcc_flags = nvcc_flags.replace("-std=c++17", "-std=c++14 -Xcompiler -std:c++14")',
        'nvcc_flags = nvcc_flags.replace("-std=c++14", "-std=c++17")',
    ),
    # Jittor compiles newer devices for sm_90, which they do not run; nvcc 13 knows them.
    Edit("jittor/compiler.py", "    max_arch = 90\n", "    max_arch = 121\n"),
    # cuDNN 9 renamed its libraries.
    Edit(
        "jittor/compile_extern.py",
        '["libcudnn_ops_infer.so", "libcudnn_ops_train.so", '
        '"libcudnn_cnn_infer.so", "libcudnn_cnn_train.so"]',
        '["libcudnn_graph.so", "libcudnn_ops.so", "libcudnn_cnn.so"]',
    ),
)

CORE = (
    # cudaDeviceProp lost computeMode; a prohibited device fails at cudaSetDevice all the same.
    Edit(HELPER, "deviceProp.computeMode", "cudaComputeModeDefault", count=3),
    # cudaDeviceProp lost clockRate; it only ranked several devices.
    Edit(HELPER, "sm_per_multiproc * deviceProp.clockRate;", "sm_per_multiproc;"),
    # npp.h is no part of the CUDA wheels; only eight constants of it are used, defined below.
    Edit(
        LIMITS,
        "#include <npp.h>\n#include <math_constants.h>\n#else\n#include <limits>\n",
        "#include <math_constants.h>\n#endif\n#include <limits>\n",
    ),
    # The other half of the edit above: CUDA's own infinities stay.
    Edit(LIMITS, "#define     CUDART_INF_F  std", "#ifndef IS_CUDA\n#define     CUDART_INF_F  std"),
    # Without a driver the count stays at -1, which Jittor takes for a device and aborts.
    Edit(
        "jittor/src/misc/cuda_flags.cc",
        "    if (count==-1)\n        cudaGetDeviceCount(&count);\n    return count;",
        "    if (count==-1 && cudaGetDeviceCount(&count) != cudaSuccess)\n"
        "        count = 0;\n    return count;",
    ),
)

PRODUCTS = tuple(
    edit
    for name in ("matmul", "batched_matmul")
    for edit in (
        # cuBLAS has no 16-bit accumulation for bfloat16, and for float16 it loses precision.
        Edit(
            f"{CUBLAS}/cublas_{name}_op.cc",
            "computeType = use_tensorcore ? CUBLAS_COMPUTE_16F : CUBLAS_COMPUTE_32F;",
            "computeType = CUBLAS_COMPUTE_32F;  // for 16-bit inputs too",
        ),
        # float64 products need float64 accumulation and float64 scale factors.
        Edit(
            f"{CUBLAS}/cublas_{name}_op.cc",
            "    if (computeType == CUBLAS_COMPUTE_16F) {",
            "    if (a->dtype() == ns_float64) computeType = CUBLAS_COMPUTE_64F;\n"
            "    if (computeType == CUBLAS_COMPUTE_64F) {",
        ),
    )
)

CONVOLUTIONS = tuple(
    # cuDNN has no bfloat16 accumulation.
    Edit(
        f"{CUDNN}/ops/cudnn_{name}_op.cc",
        "CUDNN_CROSS_CORRELATION, getDataType<Ty>()",
        "CUDNN_CROSS_CORRELATION, sizeof(Ty) == 8 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT",
    )
    for dimensions in ("conv", "conv3d")
    for name in (dimensions, f"{dimensions}_backward_w", f"{dimensions}_backward_x")
)

CUB = (
    # CCCL 3 has these iterators in thrust only.
    Edit(
        WHERE,
        "#include <thrust/transform.h>\n#endif",
        "#include <thrust/transform.h>\n#include <thrust/iterator/counting_iterator.h>\n"
        "#include <thrust/iterator/transform_iterator.h>\n#endif",
    ),
    # CCCL 3 dropped it.
    Edit(WHERE, "cub::CountingInputIterator<To>", "thrust::counting_iterator<To>"),
    # CCCL 3 dropped it.
    Edit(
        WHERE,
        "cub::TransformInputIterator<bool, NonZeroOp<Ti>, Ti*>",
        "thrust::transform_iterator<NonZeroOp<Ti>, Ti*>",
    ),
    # CCCL 3 dropped cub::Max; this stands in for it.
    Edit(
        "jittor/other/code_softmax.py",
        "#include <type/fp16_compute.h>\n''', cuda_src=f'''\n"
        "__global__ void kernel(in0_type* x, out0_type* y, int len)",
        "#include <type/fp16_compute.h>\n"
        "struct Larger {{ __device__ float operator()(float a, float b) const "
        "{{ return a > b ? a : b; }} }};\n''', cuda_src=f'''\n"
        "__global__ void kernel(in0_type* x, out0_type* y, int len)",
    ),
    # See the edit above.
    Edit("jittor/other/code_softmax.py", "cub::Max()", "Larger()"),
    # CCCL 3 dropped it; the lane is the thread's number within its warp.
    Edit(
        "jittor/depthwise_conv.py",
        "cub::LaneId()",
        "((threadIdx.x + blockDim.x * threadIdx.y) & 31)",
    ),
)

EDITS: tuple[Edit, ...] = COMPILER + CORE + PRODUCTS + CONVOLUTIONS + CUB


class EditError(RuntimeError):
    """An edit does not fit the source. The message names the file."""


def apply_edit(text: str, edit: Edit) -> str:
    """Returns the edited text; it stays the same if the edit was applied before.

    Raises EditError if `before` does not occur as often as it should.
    """
    if edit.after in text:
        return text
    count = text.count(edit.before)
    if count != edit.count:
        raise EditError(
            f"{edit.file}: expected {edit.count} times, found {count} times: {edit.before!r}. "
            f"The edits fit Jittor {JITTOR_VERSION} only: {REINSTALL}"
        )
    return text.replace(edit.before, edit.after)


def apply_edits(site: Path) -> None:
    """Applies all edits to the Jittor under `site`; a second call changes nothing.

    Raises EditError if one does not fit.
    """
    for edit in EDITS:
        path = site / edit.file
        if not path.is_file():
            raise EditError(f"{path} is missing: {REINSTALL}")
        text = path.read_text(encoding="utf8")
        if (edited := apply_edit(text, edit)) != text:
            path.write_text(edited, encoding="utf8")
    for name in REMOVED:
        (site / name).unlink(missing_ok=True)
