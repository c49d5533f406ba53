"""Self-attention as one operator, forward and backward: on the CPU, and on a GPU.

Jittor 1.3.11 computes the two products of attention in plain loops on the CPU, several times
slower, and writes every array between them. Source: Vaswani et al. 2017
(https://arxiv.org/abs/1706.03762), section 3.2.
"""

from functools import cache

from kernels import cpu_operator, cuda_operator
from kernels.cpu_operator import LANES

HEADERS = ("lanes", "attention")
CODE = """
    fast_attention::Setting s{in0->shape[0], in0->shape[1], in0->shape[2] / 3, (long)data["heads"],
                              (long)data["causal"]};
    fast_attention::run(s, in0_p, %s, out0_p);
"""
FORWARD, BACKWARD = CODE % "nullptr", CODE % "in1_p"
WIDEST = 64  # numbers of a head on a GPU, where a row of one lies in a thread's registers
CUDA_CODE = """
    int heads = data["heads"];
    cuda_attention::Setting s{(int)in0->shape[0], (int)in0->shape[1], heads, (int)data["causal"]};
    cuda_attention::%s<%d><<<s.sequences * heads, s.threads()>>>(s, %s);
"""
CUDA_FORWARD, CUDA_BACKWARD = "in0_p, out0_p", "in0_p, in1_p, out0_p, out1_p"


def fits(qkv, heads: int) -> bool:
    """Whether this path takes it: float32, a head of a multiple of 16 numbers, on the CPU, or on a
    GPU in bf16 and at most 64 numbers.
    """
    head = qkv.shape[2] // 3 // heads
    on_gpu = cuda_operator.taken(qkv) and head <= WIDEST
    return (on_gpu or cpu_operator.taken(qkv)) and head % LANES == 0


def attention(qkv, heads: int, causal: bool = False):
    """Queries, keys and values qkv[N, L, 3D] of all heads -> [N, L, D], float32; see `fits`.

    `causal` hides from each token those after it. A sequence's bits depend neither on the other
    sequences nor on the number of threads. Raises ValueError for what does not fit.
    """
    if qkv.ndim != 3 or qkv.shape[2] % (3 * heads) or not fits(qkv, heads):
        raise ValueError(
            f"attention: qkv is {qkv.dtype} {tuple(qkv.shape)} for {heads} heads; this path takes "
            f"float32 [N, L, 3D], heads of a multiple of {LANES} numbers"
        )
    return function()({"heads": heads, "causal": int(causal)})(qkv)


@cache
def function():
    """The differentiable function of qkv, a class that is made once Jittor is there."""
    import jittor as jt

    class Attention(jt.Function):
        def __init__(self, setting: dict[str, int]):
            super().__init__()
            self.setting = setting

        def execute(self, qkv):
            self.qkv = qkv
            n, length, packed = qkv.shape
            shape = (n, length, packed // 3)
            if jt.flags.use_cuda:
                return self.on_gpu("forward", CUDA_FORWARD, [qkv], [shape])[0]
            return cpu_operator.run(HEADERS, FORWARD, [qkv], shape, self.setting)

        def grad(self, dy):
            inputs, shape = [self.qkv, dy], tuple(self.qkv.shape)
            if jt.flags.use_cuda:
                kept = (shape[0], self.setting["heads"], shape[1], 2)
                return self.on_gpu("backward", CUDA_BACKWARD, inputs, [shape, kept])[0]
            return cpu_operator.run(HEADERS, BACKWARD, inputs, shape, self.setting)

        def on_gpu(self, kernel, arguments, inputs, shapes):
            head = self.qkv.shape[2] // 3 // self.setting["heads"]
            code = CUDA_CODE % (kernel, head, arguments)
            return cuda_operator.run("attention_cuda", code, inputs, shapes, self.setting)

    return Attention
