// Softmax cross entropy that leaves its gradient where the scores were.
#include <limits>

#include "lanes.h"

namespace {

// logits [n, c] and bias [c] -> losses [n]; where `keep_gradient`, logits become softmax - target, the gradient of
// each row's loss, 0 for rows whose label is below 0. A target is 1 - smoothing on the label, and smoothing / c on all.
void cross_entropy(int64_t threads, float* logits, const float* bias, const int64_t* labels, float* losses, int64_t n,
                   int64_t c, double smoothing, int64_t keep_gradient) {
    const float spread = static_cast<float>(smoothing / c), right = static_cast<float>(1 - smoothing);
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        std::vector<float> row(c);
        float* x = row.data();
        for (int64_t i = first; i < last; i++) {
            float* scores = logits + i * c;
            const int64_t label = labels[i];
            if (label < 0) {
                losses[i] = 0;
                if (keep_gradient)
                    for (int64_t j = 0; j < c; j++) store(scores + j, 0.0f);
                continue;
            }
            Floats top = all(-INFINITY), powers = {}, all_scores = {};
            in_lanes(c, [&, x](int64_t j, auto count) {
                Floats score = load(scores + j, count, -INFINITY);
                if (bias) score += load(bias + j, count);
                top = score > top ? score : top;
                store(x + j, score, count);
            });
            const float most = largest(top), at_label = x[label];
            if (smoothing > 0) in_lanes(c, [&, x](int64_t j, auto count) { all_scores += load(x + j, count); });
            in_lanes(c, [&, x](int64_t j, auto count) {
                const Floats power = fast_exp(load(x + j, count, -INFINITY) - most);
                powers += power;
                store(x + j, power, count);
            });
            const float total = sum(powers), log_sum = most + std::log(total), factor = 1 / total;
            losses[i] = log_sum - right * at_label - spread * sum(all_scores);
            if (!keep_gradient) continue;
            in_lanes(c, [=](int64_t j, auto count) { store(scores + j, load(x + j, count) * factor - spread, count); });
            store(scores + label, x[label] * factor - spread - right);
        }
    });
}

// The same where scores [c, n] stand class by class, as the product is fast whose left operand is the larger one. It
// takes a block of classes after the other, which is in the nearest cache when it is read the second time, and knows
// of every row its largest score so far and the sum of powers relative to that.
void cross_entropy_by_class(int64_t threads, bf16* scores, const float* bias, const int64_t* labels, float* losses,
                            int64_t c, int64_t n, double smoothing, int64_t keep_gradient) {
    constexpr int64_t kBlock = 32;
    const float spread = static_cast<float>(smoothing / c), right = static_cast<float>(1 - smoothing);
    // Not -INFINITY: a block in which a row has only that score would make NaN of it.
    std::vector<float> tops(threads * n, std::numeric_limits<float>::lowest());
    std::vector<float> powers(threads * n, 0.0f), totals(threads * n, 0.0f);
    std::vector<float> at_labels(n), log_sums(n), counts(n);
    parallel(threads, c, [&](int64_t first, int64_t last, int64_t thread) {
        float *top = tops.data() + thread * n, *power = powers.data() + thread * n;
        float* total = totals.data() + thread * n;
        for (int64_t k0 = first; k0 < last; k0 += kBlock) {
            const int64_t k1 = std::min(last, k0 + kBlock);
            in_lanes(n, [&](int64_t j, auto count) {
                const Floats before = load(top + j, count);
                Floats most = before, sum = load(total + j, count);
                for (int64_t k = k0; k < k1; k++) {
                    const Floats score = load(scores + k * n + j, count) + (bias ? bias[k] : 0.0f);
                    most = larger(score, most);
                    sum += score;
                }
                Floats now = load(power + j, count) * fast_exp(before - most);
                for (int64_t k = k0; k < k1; k++)
                    now += fast_exp(load(scores + k * n + j, count) + (bias ? bias[k] : 0.0f) - most);
                store(top + j, most, count);
                store(power + j, now, count);
                store(total + j, sum, count);
            });
        }
    });
    for (int64_t i = 0; i < n; i++) {
        const int64_t label = labels[i];
        counts[i] = label < 0 ? 0.0f : 1.0f;
        float most = std::numeric_limits<float>::lowest(), power = 0, total = 0;
        for (int64_t t = 0; t < threads; t++) most = std::max(most, tops[t * n + i]);
        for (int64_t t = 0; t < threads; t++) {
            power += powers[t * n + i] * std::exp(tops[t * n + i] - most);
            total += totals[t * n + i];
        }
        log_sums[i] = most + std::log(power);
        losses[i] = 0;
        if (label < 0) continue;
        at_labels[i] = to_float(scores[label * n + i]) + (bias ? bias[label] : 0.0f);
        losses[i] = log_sums[i] - right * at_labels[i] - (smoothing > 0 ? spread * total : 0.0f);
    }
    if (!keep_gradient) return;
    parallel(threads, c, [&](int64_t first, int64_t last, int64_t) {
        const float *log_sum = log_sums.data(), *counted = counts.data();
        for (int64_t k = first; k < last; k++)
            in_lanes(n, [&, k](int64_t j, auto count) {
                const Floats score = load(scores + k * n + j, count) + (bias ? bias[k] : 0.0f);
                const Floats share = fast_exp(score - load(log_sum + j, count)) - spread;
                store(scores + k * n + j, share * load(counted + j, count), count);
            });
    });
    for (int64_t i = 0; i < n; i++)
        if (labels[i] >= 0)
            store(scores + labels[i] * n + i, std::exp(at_labels[i] - log_sums[i]) - spread - right);
}

// sums [c] of the columns of matrix [c, n], each times its weight.
void weighted_row_sums(int64_t threads, const bf16* matrix, const float* weights, float* sums, int64_t c, int64_t n) {
    parallel(threads, c, [=](int64_t first, int64_t last, int64_t) {
        for (int64_t k = first; k < last; k++) {
            Floats total = {};
            in_lanes(n, [&](int64_t j, auto count) {
                total += load(matrix + k * n + j, count) * load(weights + j, count);
            });
            sums[k] = sum(total);
        }
    });
}

// sums [c] of the rows of matrix [n, c], each times its weight.
void weighted_column_sums(int64_t threads, const float* matrix, const float* weights, float* sums, int64_t n,
                          int64_t c) {
    parallel(threads, c, [=](int64_t first, int64_t last, int64_t) {
        float* total = sums + first;
        std::fill(total, sums + last, 0.0f);
        for (int64_t i = 0; i < n; i++)
            in_lanes(last - first, [=](int64_t j, auto count) {
                store(total + j, load(total + j, count) + weights[i] * load(matrix + i * c + first + j, count), count);
            });
    });
}

}  // namespace

extern "C" void cross_entropy_f32(int64_t threads, float* logits, const float* bias, const int64_t* labels,
                                  float* losses, int64_t n, int64_t c, double smoothing, int64_t keep_gradient) {
    cross_entropy(threads, logits, bias, labels, losses, n, c, smoothing, keep_gradient);
}

extern "C" void weighted_column_sums_f32(int64_t threads, const float* matrix, const float* weights, float* sums,
                                         int64_t n, int64_t c) {
    weighted_column_sums(threads, matrix, weights, sums, n, c);
}

extern "C" void cross_entropy_by_class_bf16(int64_t threads, bf16* scores, const float* bias, const int64_t* labels,
                                            float* losses, int64_t c, int64_t n, double smoothing,
                                            int64_t keep_gradient) {
    cross_entropy_by_class(threads, scores, bias, labels, losses, c, n, smoothing, keep_gradient);
}

extern "C" void weighted_row_sums_bf16(int64_t threads, const bf16* matrix, const float* weights, float* sums,
                                       int64_t c, int64_t n) {
    weighted_row_sums(threads, matrix, weights, sums, c, n);
}
