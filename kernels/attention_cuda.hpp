// Self-attention of several heads on a GPU, forward and backward, fp32. Compiled by Jittor as the
// header of one operator (kernels/attention.py). A block of threads takes one head of one sequence
// and each thread rows of its result; what they all need comes in tiles. Sums run in the order of
// the tokens and no two threads write one number, so the bits are the same each time.
namespace cuda_attention {

enum { TILE = 32, MOST_THREADS = 128 };
constexpr float NONE = -1e30f;  // below every product

struct Setting {
    int sequences, length, heads, causal;
    int threads() const {
        int rounded = (length + 31) / 32 * 32;
        return rounded < MOST_THREADS ? rounded : MOST_THREADS;
    }
};

// A row of one head, in registers.
template <int HEAD>
struct Row {
    float x[HEAD];

    __device__ void load(const float* from, float scale = 1) {
        for (int i = 0; i < HEAD; i++) x[i] = from[i] * scale;
    }
    __device__ void store(float* to, float scale = 1) const {
        for (int i = 0; i < HEAD; i++) to[i] = x[i] * scale;
    }
    __device__ float dot(const float* other) const {
        float sum = 0;
        for (int i = 0; i < HEAD; i++) sum += x[i] * other[i];
        return sum;
    }
    __device__ void add(float scale, const float* other) {
        for (int i = 0; i < HEAD; i++) x[i] += scale * other[i];
    }
};

// Where one head of one sequence lies in qkv[N, L, 3D] and in out[N, L, D].
template <int HEAD>
struct Place {
    long width, packed, rows, out;
    __device__ Place(const Setting& s) : width(s.heads * HEAD), packed(3 * width) {
        long n = blockIdx.x / s.heads, start = blockIdx.x % s.heads * HEAD;
        rows = n * s.length * packed + start;
        out = n * s.length * width + start;
    }
};

// `count` rows, `stride` apart, into the block's memory.
template <int HEAD>
__device__ void fetch(float (*to)[HEAD], const float* from, long stride, int count) {
    for (int i = threadIdx.x; i < count * HEAD; i += blockDim.x)
        to[i / HEAD][i % HEAD] = from[i / HEAD * stride + i % HEAD];
}

// f(token, its row of `a`, its row of `b`) for every token in turn, by all threads at once; `a` and
// `b` are rows of all tokens, and `tiles` is the block's memory.
template <int HEAD, class F>
__device__ void over(float (*tiles)[TILE][HEAD], int length, const float* a, long stride_a,
                     const float* b, long stride_b, F f) {
    for (int first = 0; first < length; first += TILE) {
        int count = length - first < TILE ? length - first : TILE;
        __syncthreads();  // the last tile is done with
        fetch<HEAD>(tiles[0], a + first * stride_a, stride_a, count);
        fetch<HEAD>(tiles[1], b + first * stride_b, stride_b, count);
        __syncthreads();
        for (int i = 0; i < count; i++) f(first + i, tiles[0][i], tiles[1][i]);
    }
}

// qkv[N, L, 3D] -> out[N, L, D]
template <int HEAD>
__global__ void __launch_bounds__(MOST_THREADS)
    forward(Setting s, const float* qkv, float* out) {
    __shared__ float tiles[2][TILE][HEAD];
    Place<HEAD> at(s);
    const float* q = qkv + at.rows;
    for (int first = 0; first < s.length; first += blockDim.x) {
        int row = first + threadIdx.x;
        bool mine = row < s.length;
        Row<HEAD> query = {}, sum = {};
        if (mine) query.load(q + row * at.packed, rsqrtf(HEAD));
        float most = NONE, total = 0;
        over<HEAD>(tiles, s.length, q + at.width, at.packed, q + 2 * at.width, at.packed,
                   [&](int token, const float* key, const float* value) {
                       if (!mine || (s.causal && token > row)) return;
                       float product = query.dot(key);
                       if (product > most) {  // all before weighs less than was thought
                           float less = expf(most - product);
                           for (int i = 0; i < HEAD; i++) sum.x[i] *= less;
                           total *= less, most = product;
                       }
                       float weight = expf(product - most);
                       total += weight;
                       sum.add(weight, value);
                   });
        if (mine) sum.store(out + at.out + row * at.width, 1 / total);
    }
}

// dy[N, L, D] -> dqkv[N, L, 3D]; `kept`[N, H, L, 2] takes of each query the logarithm of what its
// weights were divided by, and the mean of their slopes.
template <int HEAD>
__global__ void __launch_bounds__(MOST_THREADS)
    backward(Setting s, const float* qkv, const float* dy, float* dqkv, float* kept) {
    __shared__ float tiles[2][TILE][HEAD];
    Place<HEAD> at(s);
    const float *q = qkv + at.rows, *k = q + at.width, *v = k + at.width, scale = rsqrtf(HEAD);
    dy += at.out, dqkv += at.rows, kept += 2l * blockIdx.x * s.length;
    for (int first = 0; first < s.length; first += blockDim.x) {
        int row = first + threadIdx.x;
        bool mine = row < s.length;
        Row<HEAD> query = {}, slope = {}, sum = {};
        if (mine) query.load(q + row * at.packed, scale), slope.load(dy + row * at.width);
        float most = NONE, total = 0, mean = 0;
        over<HEAD>(tiles, s.length, k, at.packed, v, at.packed,
                   [&](int token, const float* key, const float* value) {
                       if (!mine || (s.causal && token > row)) return;
                       float product = query.dot(key), less = 1;
                       if (product > most) less = expf(most - product), most = product;
                       float weight = expf(product - most);
                       total = total * less + weight;
                       mean = mean * less + weight * slope.dot(value);
                   });
        mean = mine ? mean / total : 0;
        float divisor = most + logf(total);
        over<HEAD>(tiles, s.length, k, at.packed, v, at.packed,
                   [&](int token, const float* key, const float* value) {
                       if (!mine || (s.causal && token > row)) return;
                       float weight = expf(query.dot(key) - divisor);
                       sum.add(weight * (slope.dot(value) - mean) * scale, key);
                   });
        if (!mine) continue;
        sum.store(dqkv + row * at.packed);
        kept[2 * row] = divisor, kept[2 * row + 1] = mean;
    }
    for (int first = 0; first < s.length; first += blockDim.x) {
        int row = first + threadIdx.x;
        bool mine = row < s.length;
        Row<HEAD> key = {}, value = {}, dk = {}, dv = {};
        if (mine) key.load(k + row * at.packed, scale), value.load(v + row * at.packed);
        over<HEAD>(tiles, s.length, q, at.packed, dy, at.width,
                   [&](int token, const float* query, const float* slope) {  // all are in `kept`
                       if (!mine || (s.causal && row > token)) return;
                       float weight = expf(key.dot(query) - kept[2 * token]);
                       dv.add(weight, slope);
                       float product = weight * (value.dot(slope) - kept[2 * token + 1]);
                       dk.add(product * scale, query);
                   });
        if (!mine) continue;
        dk.store(dqkv + at.width + row * at.packed);
        dv.store(dqkv + 2 * at.width + row * at.packed);
    }
}

}  // namespace cuda_attention
