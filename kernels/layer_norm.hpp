// Layer norm over the last axis, forward and backward to its input, fp32. Compiled by Jittor after
// lanes.hpp. Each row is by itself, so no bit depends on the number of threads.

namespace norm {

using namespace lanes;

inline float mean_of(const float* x, long width) {
    vec sums = {};
    for (long i = 0; i < width; i += LANES) sums += at(x + i);
    return total(sums) / width;
}

// 1 / sqrt(variance + epsilon)
inline float scale_of(const float* x, float mean, float epsilon, long width) {
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
        float mean = mean_of(from, width), scale = scale_of(from, mean, epsilon, width);
        for (long i = 0; i < width; i += LANES)
            at(to + i) = (at(from + i) - mean) * scale * at(weight + i) + at(bias + i);
    }
}

// dy[rows][width] -> dx[rows][width]
inline void backward(long rows, long width, float epsilon, const float* dy, const float* x,
                     const float* weight, float* dx) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const float *from = x + row * width, *slope = dy + row * width;
        float mean = mean_of(from, width), scale = scale_of(from, mean, epsilon, width);
        vec sums = {}, along = {};
        for (long i = 0; i < width; i += LANES) {
            vec g = at(slope + i) * at(weight + i);
            sums += g;
            along += g * (at(from + i) - mean);
        }
        float level = total(sums) / width, tilt = total(along) / width * scale * scale;
        for (long i = 0; i < width; i += LANES) {
            vec g = at(slope + i) * at(weight + i);
            at(dx + row * width + i) = (g - level - (at(from + i) - mean) * tilt) * scale;
        }
    }
}

}  // namespace norm
