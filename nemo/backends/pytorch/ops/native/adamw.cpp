// One update of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) of many tensors, and the norm of many tensors.
#include "lanes.h"

namespace {

constexpr int64_t kBlock = 8192;
constexpr int64_t kPiece = 1024;

template <typename T>
T* at(const int64_t* addresses, int64_t i) {
    return reinterpret_cast<T*>(addresses[i]);
}

// Numbers `first` to first + n, n <= kPiece, of a tensor that may be bf16; `piece` is where they may be put.
const float* floats_at(const int64_t* addresses, const int64_t* are_bf16, int64_t i, int64_t first, int64_t n,
                       float* piece) {
    if (!are_bf16[i]) return at<const float>(addresses, i) + first;
    const bf16* from = at<const bf16>(addresses, i) + first;
    in_lanes(n, [=](int64_t j, auto count) { store(piece + j, load(from + j, count), count); });
    return piece;
}

}  // namespace

// Addresses of `count` parameters, gradients and moments, `sizes` of them, and the number of this update for each.
// Gradients are multiplied by `clip`; each may be float or bf16.
extern "C" void adamw_f32(int64_t threads, const int64_t* parameters, const int64_t* gradients, const int64_t* are_bf16,
                          const int64_t* exp_avgs, const int64_t* exp_avg_sqs, const int64_t* sizes,
                          const int64_t* updates, int64_t count, double lr, double beta1, double beta2, double eps,
                          double weight_decay, double clip) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    for (int64_t i = 0; i < count; i++) {
        const double correction1 = 1 - std::pow(beta1, updates[i]), correction2 = 1 - std::pow(beta2, updates[i]);
        const float step = lr / correction1, root = 1 / std::sqrt(correction2), shrink = 1 - lr * weight_decay;
        const float b1 = beta1, c1 = 1 - beta1, b2 = beta2, c2 = 1 - beta2, small = eps, factor = clip;
#pragma omp for nowait
        for (int64_t first = 0; first < sizes[i]; first += kBlock) {
            float piece[kPiece];
            for (int64_t from = first; from < std::min(sizes[i], first + kBlock); from += kPiece) {
                const int64_t n = std::min(kPiece, sizes[i] - from);
                float *w = at<float>(parameters, i) + from, *m = at<float>(exp_avgs, i) + from;
                float* v = at<float>(exp_avg_sqs, i) + from;
                const float* gradient = floats_at(gradients, are_bf16, i, from, n, piece);
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
}

// The bf16 of `count` float tensors.
extern "C" void round_all_f32(int64_t threads, const int64_t* tensors, const int64_t* rounded, const int64_t* sizes,
                              int64_t count) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    for (int64_t i = 0; i < count; i++) {
#pragma omp for nowait
        for (int64_t first = 0; first < sizes[i]; first += kBlock) {
            const float* from = at<const float>(tensors, i) + first;
            bf16* to = at<bf16>(rounded, i) + first;
            in_lanes(std::min(kBlock, sizes[i] - first),
                     [=](int64_t j, auto n) { store(to + j, load(from + j, n), n); });
        }
    }
}

// norm [1] of all the elements of `count` tensors, each float or bf16. The sums of blocks are added up in their order, so
// that it repeats to the bit.
extern "C" void norm_f32(int64_t threads, const int64_t* tensors, const int64_t* are_bf16, const int64_t* sizes,
                         int64_t count, float* norm) {
    std::vector<int64_t> blocks_before(count + 1, 0);
    for (int64_t i = 0; i < count; i++) blocks_before[i + 1] = blocks_before[i] + (sizes[i] + kBlock - 1) / kBlock;
    std::vector<float> of_blocks(blocks_before[count]);
#pragma omp parallel num_threads(static_cast<int>(threads))
    for (int64_t i = 0; i < count; i++) {
#pragma omp for nowait
        for (int64_t first = 0; first < sizes[i]; first += kBlock) {
            float piece[kPiece];
            float squares = 0;
            for (int64_t from = first; from < std::min(sizes[i], first + kBlock); from += kPiece) {
                const int64_t n = std::min(kPiece, sizes[i] - from);
                const float* x = floats_at(tensors, are_bf16, i, from, n, piece);
#pragma omp simd reduction(+ : squares)
                for (int64_t j = 0; j < n; j++) squares += x[j] * x[j];
            }
            of_blocks[blocks_before[i] + first / kBlock] = squares;
        }
    }
    double total = 0;
    for (float squares : of_blocks) total += squares;
    *norm = static_cast<float>(std::sqrt(total));
}
