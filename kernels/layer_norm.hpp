// Layer norm over the last axis, forward and backward to its input, in fp32. Jittor compiles it
// after lanes.hpp. Each row is computed by itself, so no bit depends on the number of threads.

namespace norm {

using namespace lanes;

inline float compute_mean(const float* x, long width) {
    vec sums = {};
    for (long i = 0; i < width; i += LANES) sums += at(x + i);
    return total(sums) / width;
}

// 1 / sqrt(variance + epsilon)
inline float compute_scale(const float* x, float mean, float epsilon, long width) {
    vec sums = {};
    for (long i = 0; i < width; i += LANES) sums += (at(x + i) - mean) * (at(x + i) - mean);
    return 1 / sqrtf(total(sums) / width + epsilon);
}

// x[rows][width], weight[width], bias[width] -> y[rows][width]
inline void forward(long rows, long width, float epsilon, const float* x, const float* weight,
                    const float* bias, float* y) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const float* from = x + row * width;
        float* to = y + row * width;
        float mean = compute_mean(from, width), scale = compute_scale(from, mean, epsilon, width);
        for (long i = 0; i < width; i += LANES)
            at(to + i) = (at(from + i) - mean) * scale * at(weight + i) + at(bias + i);
    }
}

// dy[rows][width] -> dx[rows][width]
inline void backward(long rows, long width, float epsilon, const float* dy, const float* x,
                     const float* weight, float* dx) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const float *from = x + row * width, *gradient = dy + row * width;
        float mean = compute_mean(from, width), scale = compute_scale(from, mean, epsilon, width);
        vec sums = {}, products = {};
        for (long i = 0; i < width; i += LANES) {
            vec g = at(gradient + i) * at(weight + i);
            sums += g;
            products += g * (at(from + i) - mean);
        }
        float mean_gradient = total(sums) / width;
        float correlation = total(products) / width * scale * scale;
        for (long i = 0; i < width; i += LANES) {
            vec g = at(gradient + i) * at(weight + i);
            vec along_x = (at(from + i) - mean) * correlation;
            at(dx + row * width + i) = (g - mean_gradient - along_x) * scale;
        }
    }
}

}  // namespace norm
