// The gradient of a softmax classifier's cross-entropy in one pass, in fp32. Jittor compiles it
// after lanes.hpp. Each row is computed by itself, so no bit depends on the number of threads.
#include <vector>

namespace softmax {

using namespace lanes;

// The logits are products[N,C] + scales[C] cosines[N,C] + offsets[C], P their softmax, Y the
// one-hot labels[N]. Computes difference[N,C] = mask[N] (P - Y) and losses[N] = -log P of the
// label.
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
            float largest = *std::max_element(z.begin(), z.begin() + classes);
            float label_logit = z[label] - largest;
            std::fill(z.begin() + classes, z.end(), largest);
            vec sums = {};
            for (long k = 0; k < padded; k += LANES) {
                at(&z[k]) = exponential(at(&z[k]) - largest);
                if (k + LANES > classes) std::fill(z.begin() + classes, z.end(), 0.0f);
                sums += at(&z[k]);
            }
            float sum = total(sums), scale = mask[n] / sum;
            for (long k = 0; k < classes; k++) difference[n * classes + k] = z[k] * scale;
            difference[n * classes + label] -= mask[n];
            losses[n] = logf(sum) - label_logit;
        }
    }
}

}  // namespace softmax
