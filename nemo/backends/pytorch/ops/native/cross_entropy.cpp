// Softmax cross entropy that leaves its gradient where the scores were.
#include "common.h"

namespace {

// logits [n, c] and bias [c] -> losses [n]; where `keep_gradient`, logits become softmax - target, the gradient of
// each row's loss, 0 for rows whose label is below 0. A target is 1 - smoothing on the label, and smoothing / c on all.
template <typename T>
void cross_entropy(int64_t threads, T* logits, const float* bias, const int64_t* labels, float* losses, int64_t n,
                   int64_t c, double smoothing, int64_t keep_gradient) {
    const float spread = static_cast<float>(smoothing / c), right = static_cast<float>(1 - smoothing);
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        std::vector<float> row(c);
        float* x = row.data();
        for (int64_t i = first; i < last; i++) {
            T* scores = logits + i * c;
            const int64_t label = labels[i];
            if (label < 0) {
                losses[i] = 0;
                if (keep_gradient)
                    for (int64_t j = 0; j < c; j++) store(scores + j, 0.0f);
                continue;
            }
            float most = -INFINITY, sum = 0, total = 0;
            for (int64_t j = 0; j < c; j++) x[j] = to_float(scores[j]);
            if (bias)
                for (int64_t j = 0; j < c; j++) x[j] += bias[j];
#pragma omp simd reduction(max : most)
            for (int64_t j = 0; j < c; j++) most = x[j] > most ? x[j] : most;
            if (smoothing > 0) {
#pragma omp simd reduction(+ : total)
                for (int64_t j = 0; j < c; j++) total += x[j];
            }
            const float at_label = x[label];
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < c; j++) {
                x[j] = fast_exp(x[j] - most);
                sum += x[j];
            }
            const float log_sum = most + std::log(sum), factor = 1 / sum;
            losses[i] = log_sum - right * at_label - spread * total;
            if (!keep_gradient) continue;
            for (int64_t j = 0; j < c; j++) store(scores + j, x[j] * factor - spread);
            store(scores + label, x[label] * factor - spread - right);
        }
    });
}

// sums [c] of the rows of matrix [n, c], each times its weight.
template <typename T>
void weighted_column_sums(int64_t threads, const T* matrix, const float* weights, float* sums, int64_t n, int64_t c) {
    parallel(threads, c, [=](int64_t first, int64_t last, int64_t) {
        for (int64_t j = first; j < last; j++) sums[j] = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = first; j < last; j++) sums[j] += weights[i] * to_float(matrix[i * c + j]);
    });
}

}  // namespace

#define PARAMETERS(T)                                                                                             \
    (int64_t threads, T* logits, const float* bias, const int64_t* labels, float* losses, int64_t n, int64_t c,   \
     double smoothing, int64_t keep_gradient)
FOR_BOTH_TYPES(cross_entropy, PARAMETERS, (threads, logits, bias, labels, losses, n, c, smoothing, keep_gradient))
#undef PARAMETERS

#define PARAMETERS(T) (int64_t threads, const T* matrix, const float* weights, float* sums, int64_t n, int64_t c)
FOR_BOTH_TYPES(weighted_column_sums, PARAMETERS, (threads, matrix, weights, sums, n, c))
