// The changes of low-rank adapters, with dropout, forward and backward, in fp32. Jittor compiles it
// after lanes.hpp. Adapter p adds factor * B_p (A_p dropout(x)) to `outputs` columns of a layer's
// result, from offsets[p] on. The mask of dropout is a hash of (seed of the adapter, row, column),
// and sums over rows are taken in blocks of a fixed size, so no bit depends on threads.
#include <vector>

namespace lora {

using namespace lanes;
enum { BLOCK = 128 };  // rows per block of a sum

struct Setting {
    long rows, inputs, outputs, rank, adapters, columns;  // columns: of the layer's result
    float factor, dropout;
    long offsets[3];
    unsigned seeds[3];
};

// A hash of which every output bit depends on every input bit.
inline uvec hash_lanes(uvec x) {
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15)) * 0x846ca68bU;
    return x ^ (x >> 16);
}

// out = dropout(x) of one row: the entries that stay are scaled by 1 / (1 - dropout).
inline void apply_dropout(const Setting& s, long adapter, long row, const float* x, float* out) {
    uvec lane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float scale = 1 / (1 - s.dropout);
    unsigned limit = (unsigned)(s.dropout * 4294967296.0);
    uvec start = hash_lanes(uvec{} + (unsigned)row + s.seeds[adapter]);
    for (long d = 0; d < s.inputs; d += LANES) {
        uvec drawn = hash_lanes(start ^ hash_lanes(lane + (unsigned)d + 1));
        at(out + d) = drawn >= limit ? at(x + d) * scale : vec{};
    }
}

inline float dot(const float* a, const float* b, long count) {
    vec sums = {};
    for (long i = 0; i < count; i += LANES) sums += at(a + i) * at(b + i);
    return total(sums);
}

// to += weight * from
inline void add(float* to, const float* from, float weight, long count) {
    for (long i = 0; i < count; i += LANES) at(to + i) += at(from + i) * weight;
}

// Transposes B[adapters][outputs][rank] to [adapters][rank][outputs].
inline std::vector<float> transpose_b(const Setting& s, const float* b) {
    std::vector<float> result(s.adapters * s.rank * s.outputs);
    for (long p = 0; p < s.adapters; p++)
        for (long j = 0; j < s.outputs; j++)
            for (long r = 0; r < s.rank; r++)
                result[(p * s.rank + r) * s.outputs + j] = b[(p * s.outputs + j) * s.rank + r];
    return result;
}

// x[rows][inputs], base[rows][columns], A[adapters][rank][inputs], B[adapters][outputs][rank]
// -> y[rows][columns], narrow[rows][adapters][rank] = A dropout(x)
inline void forward(const Setting& s, const float* x, const float* base, const float* a,
                    const float* b, float* y, float* narrow) {
    auto wide = transpose_b(s, b);
#pragma omp parallel
    {
        std::vector<float> masked(s.inputs);
#pragma omp for schedule(static)
        for (long row = 0; row < s.rows; row++) {
            memcpy(y + row * s.columns, base + row * s.columns, s.columns * sizeof(float));
            for (long p = 0; p < s.adapters; p++) {
                apply_dropout(s, p, row, x + row * s.inputs, masked.data());
                for (long i = p * s.rank; i < (p + 1) * s.rank; i++) {
                    float value = dot(masked.data(), a + i * s.inputs, s.inputs);
                    narrow[row * s.adapters * s.rank + i] = value;
                    add(y + row * s.columns + s.offsets[p], wide.data() + i * s.outputs,
                        s.factor * value, s.outputs);
                }
            }
        }
    }
}

// dy[rows][columns] -> dx[rows][inputs], and dA and dB in the shapes of A and B
inline void backward(const Setting& s, const float* dy, const float* x, const float* a,
                     const float* b, const float* narrow, float* dx, float* da, float* db) {
    auto wide = transpose_b(s, b);
    long all = s.adapters * s.rank, blocks = (s.rows + BLOCK - 1) / BLOCK;
    long size = all * (s.inputs + s.outputs);
    std::vector<float> partial(blocks * size);
#pragma omp parallel
    {
        std::vector<float> masked(s.inputs), to_x(s.inputs);
#pragma omp for schedule(static)
        for (long block = 0; block < blocks; block++) {
            float *to_a = partial.data() + block * size, *to_b = to_a + all * s.inputs;
            for (long row = block * BLOCK; row < std::min(s.rows, (block + 1) * BLOCK); row++) {
                float* out = dx + row * s.inputs;
                memset(out, 0, s.inputs * sizeof(float));
                for (long p = 0; p < s.adapters; p++) {
                    const float* gradient = dy + row * s.columns + s.offsets[p];
                    apply_dropout(s, p, row, x + row * s.inputs, masked.data());
                    std::fill(to_x.begin(), to_x.end(), 0.0f);
                    for (long i = p * s.rank; i < (p + 1) * s.rank; i++) {
                        const float* column = wide.data() + i * s.outputs;
                        float slope = s.factor * dot(gradient, column, s.outputs);
                        add(to_a + i * s.inputs, masked.data(), slope, s.inputs);
                        add(to_b + i * s.outputs, gradient, s.factor * narrow[row * all + i],
                            s.outputs);
                        add(to_x.data(), a + i * s.inputs, slope, s.inputs);
                    }
                    apply_dropout(s, p, row, to_x.data(), masked.data());
                    add(out, masked.data(), 1, s.inputs);
                }
            }
        }
    }
    for (long block = 1; block < blocks; block++)
        add(partial.data(), partial.data() + block * size, 1, size);
    memcpy(da, partial.data(), all * s.inputs * sizeof(float));
    const float* to_wide = partial.data() + all * s.inputs;
    for (long p = 0; p < s.adapters; p++)
        for (long j = 0; j < s.outputs; j++)
            for (long r = 0; r < s.rank; r++) {
                float slope = to_wide[(p * s.rank + r) * s.outputs + j];
                db[(p * s.outputs + j) * s.rank + r] = slope;
            }
}

}  // namespace lora
