// LayerNorm(residual + dropout(x + bias)) in one pass over memory, and its gradient in another.
#include "common.h"

namespace {

// Dropout of a row.
void drop(float* x, uint32_t key, uint32_t threshold, float rescale, int64_t d) {
    for (int64_t j = 0; j < d; j++) x[j] *= keep(key, static_cast<uint32_t>(j), threshold) ? rescale : 0.0f;
}

// x, residual, out, sum [n, d]; `sum` keeps what is normed. statistics [n, 2]: mean and 1 / standard deviation.
template <typename T>
void dropout_add_norm(int64_t threads, const T* x, const float* bias, const T* residual, const float* weight,
                      const float* norm_bias, T* sum, T* out, float* statistics, int64_t n, int64_t d, double eps,
                      double p, int64_t seed) {
    const uint32_t threshold = threshold_of(p);
    const float rescale = static_cast<float>(1 / (1 - p));
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        std::vector<float> row(d);
        float* z = row.data();
        for (int64_t i = first; i < last; i++) {
            const T *xi = x + i * d, *ri = residual + i * d;
            for (int64_t j = 0; j < d; j++) z[j] = to_float(xi[j]);
            if (bias)
                for (int64_t j = 0; j < d; j++) z[j] += bias[j];
            if (threshold) drop(z, row_key(seed, i), threshold, rescale, d);
            float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
            for (int64_t j = 0; j < d; j++) {
                z[j] += to_float(ri[j]);
                total += z[j];
            }
            const float mean = total / d;
#pragma omp simd reduction(+ : squares)
            for (int64_t j = 0; j < d; j++) squares += (z[j] - mean) * (z[j] - mean);
            const float inverse = 1 / std::sqrt(squares / d + static_cast<float>(eps));
            statistics[2 * i] = mean;
            statistics[2 * i + 1] = inverse;
            for (int64_t j = 0; j < d; j++) {
                store(sum + i * d + j, z[j]);
                store(out + i * d + j, (z[j] - mean) * inverse * weight[j] + norm_bias[j]);
            }
        }
    });
}

// grad [n, d] is of `out`. sum_grad [n, d], of the residual; x_grad, the same where nothing is dropped, may be null
// then. sums [3, d] of the gradients of weight, norm_bias and bias are added to.
template <typename T>
void dropout_add_norm_backward(int64_t threads, const T* grad, const T* sum, const float* statistics,
                               const float* weight, T* sum_grad, T* x_grad, float* sums, int64_t n, int64_t d, double p,
                               int64_t seed) {
    const uint32_t threshold = threshold_of(p);
    const float rescale = static_cast<float>(1 / (1 - p));
    ThreadSums all(threads, 3 * d);
    parallel(threads, n, [=, &all](int64_t first, int64_t last, int64_t thread) {
        float *weight_grad = all.of(thread), *norm_bias_grad = weight_grad + d, *bias_grad = norm_bias_grad + d;
        std::vector<float> rows(2 * d);
        float *normed = rows.data(), *scaled = normed + d;
        for (int64_t i = first; i < last; i++) {
            const T *gi = grad + i * d, *zi = sum + i * d;
            const float mean = statistics[2 * i], inverse = statistics[2 * i + 1];
            float a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
            for (int64_t j = 0; j < d; j++) {
                const float g = to_float(gi[j]), y = (to_float(zi[j]) - mean) * inverse;
                weight_grad[j] += g * y;
                norm_bias_grad[j] += g;
                normed[j] = y;
                scaled[j] = g * weight[j];
                a += scaled[j];
                b += scaled[j] * y;
            }
            a /= d;
            b /= d;
            for (int64_t j = 0; j < d; j++) {
                scaled[j] = (scaled[j] - a - normed[j] * b) * inverse;
                store(sum_grad + i * d + j, scaled[j]);
            }
            if (threshold) {
                drop(scaled, row_key(seed, i), threshold, rescale, d);
                for (int64_t j = 0; j < d; j++) store(x_grad + i * d + j, scaled[j]);
            }
            for (int64_t j = 0; j < d; j++) bias_grad[j] += scaled[j];
        }
    });
    all.add_to(sums);
}

}  // namespace

#define PARAMETERS(T)                                                                                                \
    (int64_t threads, const T* x, const float* bias, const T* residual, const float* weight, const float* norm_bias, \
     T* sum, T* out, float* statistics, int64_t n, int64_t d, double eps, double p, int64_t seed)
FOR_BOTH_TYPES(dropout_add_norm, PARAMETERS,
               (threads, x, bias, residual, weight, norm_bias, sum, out, statistics, n, d, eps, p, seed))
#undef PARAMETERS

#define PARAMETERS(T)                                                                                              \
    (int64_t threads, const T* grad, const T* sum, const float* statistics, const float* weight, T* sum_grad,      \
     T* x_grad, float* sums, int64_t n, int64_t d, double p, int64_t seed)
FOR_BOTH_TYPES(dropout_add_norm_backward, PARAMETERS,
               (threads, grad, sum, statistics, weight, sum_grad, x_grad, sums, n, d, p, seed))
