// LayerNorm(residual + dropout(x + bias)) in one pass over memory, and its gradient in another.
#include "lanes.h"

namespace {

// x, residual, out, sum [n, d]; `sum` keeps what is normed. statistics [n, 2]: mean and 1 / standard deviation.
template <typename T>
void dropout_add_norm(int64_t threads, const T* x, const float* bias, const T* residual, const float* weight,
                      const float* norm_bias, T* sum_out, T* out, float* statistics, int64_t n, int64_t d, double eps,
                      double p, int64_t seed) {
    const uint32_t threshold = threshold_of(p);
    const float rescale = static_cast<float>(1 / (1 - p));
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        std::vector<float> row(d);
        float* z = row.data();
        for (int64_t i = first; i < last; i++) {
            const Words key = all(row_key(seed, i));
            Floats total = {}, squares = {};
            in_lanes(d, [&, z](int64_t j, auto count) {
                Floats y = load(x + i * d + j, count);
                if (bias) y += load(bias + j, count);
                if (threshold) y = dropped(y, key, numbers_from(j), threshold, rescale);
                y += load(residual + i * d + j, count);
                total += y;
                store(z + j, y, count);
                store(sum_out + i * d + j, y, count);
            });
            // What is beyond the end of a row is 0 in `total`, whatever was dropped there; and is left out here.
            const float mean = sum(total) / d;
            in_lanes(d, [&, z](int64_t j, auto count) {
                const Floats y = load(z + j, count, mean) - mean;
                squares += y * y;
            });
            const float inverse = 1 / std::sqrt(sum(squares) / d + static_cast<float>(eps));
            statistics[2 * i] = mean;
            statistics[2 * i + 1] = inverse;
            in_lanes(d, [=](int64_t j, auto count) {
                const Floats y = (load(z + j, count) - mean) * inverse;
                store(out + i * d + j, y * load(weight + j, count) + load(norm_bias + j, count), count);
            });
        }
    });
}

// grad [n, d] is of `out`. sum_grad [n, d], of the residual; x_grad, the same where nothing is dropped, may be null
// then. sums [3, d] of the gradients of weight, norm_bias and bias are added to.
template <typename T>
void dropout_add_norm_backward(int64_t threads, const T* grad, const T* sum_in, const float* statistics,
                               const float* weight, T* sum_grad, T* x_grad, float* sums, int64_t n, int64_t d, double p,
                               int64_t seed) {
    const uint32_t threshold = threshold_of(p);
    const float rescale = static_cast<float>(1 / (1 - p));
    ThreadSums all_sums(threads, 3 * d);
    parallel(threads, n, [=, &all_sums](int64_t first, int64_t last, int64_t thread) {
        float *weight_grad = all_sums.of(thread), *norm_bias_grad = weight_grad + d, *bias_grad = norm_bias_grad + d;
        std::vector<float> rows(2 * d);
        float *normed = rows.data(), *scaled = normed + d;
        for (int64_t i = first; i < last; i++) {
            const float mean = statistics[2 * i], inverse = statistics[2 * i + 1];
            Floats a = {}, b = {};
            in_lanes(d, [&, normed, scaled](int64_t j, auto count) {
                Floats g = load(grad + i * d + j, count);
                const Floats y = (load(sum_in + i * d + j, count) - mean) * inverse;
                store(weight_grad + j, load(weight_grad + j, count) + g * y, count);
                store(norm_bias_grad + j, load(norm_bias_grad + j, count) + g, count);
                g *= load(weight + j, count);
                store(normed + j, y, count);
                store(scaled + j, g, count);
                a += g;
                b += g * y;
            });
            const float mean_a = sum(a) / d, mean_b = sum(b) / d;
            const Words key = all(row_key(seed, i));
            in_lanes(d, [=](int64_t j, auto count) {
                Floats g = (load(scaled + j, count) - mean_a - load(normed + j, count) * mean_b) * inverse;
                store(sum_grad + i * d + j, g, count);
                if (threshold) {
                    g = dropped(g, key, numbers_from(j), threshold, rescale);
                    store(x_grad + i * d + j, g, count);
                }
                store(bias_grad + j, load(bias_grad + j, count) + g, count);
            });
        }
    });
    all_sums.add_to(sums);
}

}  // namespace

#define PARAMETERS(T)                                                                                                \
    (int64_t threads, const T* x, const float* bias, const T* residual, const float* weight, const float* norm_bias, \
     T* sum_out, T* out, float* statistics, int64_t n, int64_t d, double eps, double p, int64_t seed)
FOR_BOTH_TYPES(dropout_add_norm, PARAMETERS,
               (threads, x, bias, residual, weight, norm_bias, sum_out, out, statistics, n, d, eps, p, seed))
#undef PARAMETERS

#define PARAMETERS(T)                                                                                              \
    (int64_t threads, const T* grad, const T* sum_in, const float* statistics, const float* weight, T* sum_grad,   \
     T* x_grad, float* sums, int64_t n, int64_t d, double p, int64_t seed)
FOR_BOTH_TYPES(dropout_add_norm_backward, PARAMETERS,
               (threads, grad, sum_in, statistics, weight, sum_grad, x_grad, sums, n, d, p, seed))
