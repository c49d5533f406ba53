// Self-attention of several heads on a GPU, forward and backward, in fp32. Jittor compiles it as
// the header of one operator (kernels/attention.py). A block of threads takes one head of one
// sequence, and each thread takes rows of its result. The rows that all threads need come in tiles
// through shared memory. Sums run in the order of the tokens and no two threads write the same
// number, so the bits are the same each time.
namespace cuda_attention {

enum { TILE = 32, MOST_THREADS = 128 };
constexpr float LOWEST = -1e30f;  // below every product

struct Setting {
    int sequences, length, heads, causal;
    int threads() const {
        int rounded = (length + 31) / 32 * 32;
        return rounded < MOST_THREADS ? rounded : MOST_THREADS;
    }
};

// One token's row of one head, in registers.
template <int HEAD>
struct Row {
    float x[HEAD];

    __device__ void load(const float* from, float scale = 1) {
        for (int i = 0; i < HEAD; i++) x[i] = from[i] * scale;
    }
    __device__ void store(float* to, float scale = 1) const {
        for (int i = 0; i < HEAD; i++) to[i] = x[i] * scale;
    }
    __device__ float dot(const float* y) const {
        float sum = 0;
        for (int i = 0; i < HEAD; i++) sum += x[i] * y[i];
        return sum;
    }
    __device__ void add(float scale, const float* y) {
        for (int i = 0; i < HEAD; i++) x[i] += scale * y[i];
    }
};

// The offsets of one head of one sequence in qkv[N, L, 3D] and in out[N, L, D].
template <int HEAD>
struct Offsets {
    long width, packed, rows, out;
    __device__ Offsets(const Setting& s) : width(s.heads * HEAD), packed(3 * width) {
        long n = blockIdx.x / s.heads, start = blockIdx.x % s.heads * HEAD;
        rows = n * s.length * packed + start;
        out = n * s.length * width + start;
    }
};

// Copies `count` rows, `stride` apart, into the shared memory of the block.
template <int HEAD>
__device__ void fetch(float (*to)[HEAD], const float* from, long stride, int count) {
    for (int i = threadIdx.x; i < count * HEAD; i += blockDim.x)
        to[i / HEAD][i % HEAD] = from[i / HEAD * stride + i % HEAD];
}

// Calls f(token, row of a, row of b) for every token in turn, in all threads at once. a and b hold
// the rows of all tokens, and `tiles` is shared memory of the block.
template <int HEAD, class F>
__device__ void for_each_token(float (*tiles)[TILE][HEAD], int length, const float* a,
                               long stride_a, const float* b, long stride_b, F f) {
    for (int first = 0; first < length; first += TILE) {
        int count = length - first < TILE ? length - first : TILE;
        __syncthreads();  // all threads have finished the previous tile
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
    Offsets<HEAD> at(s);
    const float* q = qkv + at.rows;
    for (int first = 0; first < s.length; first += blockDim.x) {
        int row = first + threadIdx.x;
        bool active = row < s.length;
        Row<HEAD> query = {}, sum = {};
        if (active) query.load(q + row * at.packed, rsqrtf(HEAD));
        float largest = LOWEST, total = 0;
        for_each_token<HEAD>(tiles, s.length, q + at.width, at.packed, q + 2 * at.width, at.packed,
                   [&](int token, const float* key, const float* value) {
                       if (!active || (s.causal && token > row)) return;
                       float product = query.dot(key);
                       if (product > largest) {  // rescale the sums so far to the new maximum
                           float rescale = expf(largest - product);
                           for (int i = 0; i < HEAD; i++) sum.x[i] *= rescale;
                           total *= rescale, largest = product;
                       }
                       float weight = expf(product - largest);
                       total += weight;
                       sum.add(weight, value);
                   });
        if (active) sum.store(out + at.out + row * at.width, 1 / total);
    }
}

// dy[N, L, D] -> dqkv[N, L, 3D]. statistics[N, H, L, 2] receives two numbers per query: the
// logarithm of the divisor of its weights, and the weighted mean of the weights' gradients.
template <int HEAD>
__global__ void __launch_bounds__(MOST_THREADS)
    backward(Setting s, const float* qkv, const float* dy, float* dqkv, float* statistics) {
    __shared__ float tiles[2][TILE][HEAD];
    Offsets<HEAD> at(s);
    const float *q = qkv + at.rows, *k = q + at.width, *v = k + at.width, scale = rsqrtf(HEAD);
    dy += at.out, dqkv += at.rows, statistics += 2l * blockIdx.x * s.length;
    for (int first = 0; first < s.length; first += blockDim.x) {
        int row = first + threadIdx.x;
        bool active = row < s.length;
        Row<HEAD> query = {}, slope = {}, sum = {};
        if (active) query.load(q + row * at.packed, scale), slope.load(dy + row * at.width);
        float largest = LOWEST, total = 0, mean = 0;
        for_each_token<HEAD>(tiles, s.length, k, at.packed, v, at.packed,
                   [&](int token, const float* key, const float* value) {
                       if (!active || (s.causal && token > row)) return;
                       float product = query.dot(key), rescale = 1;
                       if (product > largest) rescale = expf(largest - product), largest = product;
                       float weight = expf(product - largest);
                       total = total * rescale + weight;
                       mean = mean * rescale + weight * slope.dot(value);
                   });
        mean = active ? mean / total : 0;
        float log_divisor = largest + logf(total);
        for_each_token<HEAD>(tiles, s.length, k, at.packed, v, at.packed,
                   [&](int token, const float* key, const float* value) {
                       if (!active || (s.causal && token > row)) return;
                       float weight = expf(query.dot(key) - log_divisor);
                       sum.add(weight * (slope.dot(value) - mean) * scale, key);
                   });
        if (!active) continue;
        sum.store(dqkv + row * at.packed);
        statistics[2 * row] = log_divisor, statistics[2 * row + 1] = mean;
    }
    for (int first = 0; first < s.length; first += blockDim.x) {
        int row = first + threadIdx.x;
        bool active = row < s.length;
        Row<HEAD> key = {}, value = {}, dk = {}, dv = {};
        if (active) key.load(k + row * at.packed, scale), value.load(v + row * at.packed);
        for_each_token<HEAD>(tiles, s.length, q, at.packed, dy, at.width,
                   [&](int token, const float* query, const float* slope) {
                       if (!active || (s.causal && row > token)) return;
                       float weight = expf(key.dot(query) - statistics[2 * token]);
                       dv.add(weight, slope);
                       float product = weight * (value.dot(slope) - statistics[2 * token + 1]);
                       dk.add(product * scale, query);
                   });
        if (!active) continue;
        dk.store(dqkv + at.width + row * at.packed);
        dv.store(dqkv + 2 * at.width + row * at.packed);
    }
}

}  // namespace cuda_attention
