// The slopes of a softmax classifier's cross-entropy in one pass, fp32. Compiled by Jittor after
// lanes.hpp. Each row is by itself, so no bit depends on the number of threads.
#include <vector>

namespace softmax {

using namespace lanes;

// products[N,C], scales[C], cosines[N,C], offsets[C], labels[N], mask[N] ->
// mask (P - Y)[N,C] and -log P of the label [N], of the logits products + scales cosines + offsets
inline void gradient(long rows, long classes, const float* products, const float* scales,
                   const float* cosines, const float* offsets, const float* labels,
                   const float* mask, float* difference, float* losses) {
    long padded = (classes + LANES - 1) / LANES * LANES;
#pragma omp parallel
    {
        std::vector<float> z(padded);
#pragma omp for schedule(static)
        for (long n = 0; n < rows; n++) {
            const float *p = products + n * classes, *c = cosines + n * classes;
            for (long k = 0; k < classes; k++) z[k] = p[k] + scales[k] * c[k] + offsets[k];
            long label = (long)labels[n];
            float top = *std::max_element(z.begin(), z.begin() + classes), own = z[label] - top;
            std::fill(z.begin() + classes, z.end(), top);
            vec sums = {};
            for (long k = 0; k < padded; k += LANES) {
                at(&z[k]) = exponential(at(&z[k]) - top);
                if (k + LANES > classes) std::fill(z.begin() + classes, z.end(), 0.0f);
                sums += at(&z[k]);
            }
            float sum = total(sums), scale = mask[n] / sum;
            for (long k = 0; k < classes; k++) difference[n * classes + k] = z[k] * scale;
            difference[n * classes + label] -= mask[n];
            losses[n] = logf(sum) - own;
        }
    }
}

}  // namespace softmax
