// One update of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) of many tensors, and the norm of many tensors.
#include "common.h"

namespace {

constexpr int64_t kChunk = 8192;

template <typename T>
T* at(const int64_t* addresses, int64_t i) {
    return reinterpret_cast<T*>(addresses[i]);
}

}  // namespace

// Addresses of `count` parameters, gradients and moments, `sizes` of them, and the number of this update for each.
// Gradients are multiplied by `clip`.
extern "C" void adamw_f32(int64_t threads, const int64_t* parameters, const int64_t* gradients, const int64_t* exp_avgs,
                          const int64_t* exp_avg_sqs, const int64_t* sizes, const int64_t* updates, int64_t count,
                          double lr, double beta1, double beta2, double eps, double weight_decay, double clip) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    for (int64_t i = 0; i < count; i++) {
        const double correction1 = 1 - std::pow(beta1, updates[i]), correction2 = 1 - std::pow(beta2, updates[i]);
        const float step = lr / correction1, root = 1 / std::sqrt(correction2), shrink = 1 - lr * weight_decay;
        const float b1 = beta1, c1 = 1 - beta1, b2 = beta2, c2 = 1 - beta2, small = eps, factor = clip;
#pragma omp for nowait
        for (int64_t first = 0; first < sizes[i]; first += kChunk) {
            const int64_t n = std::min(kChunk, sizes[i] - first);
            float *w = at<float>(parameters, i) + first, *m = at<float>(exp_avgs, i) + first;
            float* v = at<float>(exp_avg_sqs, i) + first;
            const float* gradient = at<const float>(gradients, i) + first;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                const float g = gradient[j] * factor;
                m[j] = m[j] * b1 + g * c1;
                v[j] = v[j] * b2 + g * g * c2;
                w[j] = w[j] * shrink - step * m[j] / (std::sqrt(v[j]) * root + small);
            }
        }
    }
}

// norm [1] of all the elements of `count` tensors.
extern "C" void norm_f32(int64_t threads, const int64_t* tensors, const int64_t* sizes, int64_t count, float* norm) {
    std::vector<double> of_threads(threads, 0.0);  // added up in their order, so that the sum repeats to the bit
#pragma omp parallel num_threads(static_cast<int>(threads))
    for (int64_t i = 0; i < count; i++) {
#pragma omp for schedule(static) nowait
        for (int64_t first = 0; first < sizes[i]; first += kChunk) {
            const float* x = at<const float>(tensors, i) + first;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < std::min(kChunk, sizes[i] - first); j++) sum += x[j] * x[j];
            of_threads[omp_get_thread_num()] += sum;
        }
    }
    double total = 0;
    for (double sum : of_threads) total += sum;
    *norm = static_cast<float>(std::sqrt(total));
}
