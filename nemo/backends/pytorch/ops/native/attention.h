// What the two attention kernels share: where the sequences and the projections of their tokens are.
#pragma once

#include "common.h"

// Offsets [count + 1] of `count` sequences among the queries and among the keys.
struct Sequences {
    const int32_t *queries, *keys;
    int64_t count, heads, width;
    int64_t longest_queries, longest_keys;
};

// A projection of the tokens, [N, heads * width], rows `stride` apart, and its bias.
template <typename T>
struct Projection {
    T* data;
    int64_t stride;
    float* bias;  // of the projection, or its gradient; may be null
};

using Brgemm = void (*)(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add, const void* a,
                        const void* b, float* c, bool paired);
using Release = void (*)(bool paired);

// oneDNN's bf16 products of small blocks; null where the processor does not multiply bf16 numbers.
extern Brgemm brgemm;
extern Release brgemm_release;

// Attention by `brgemm`; arguments and results as of the kernels in attention.cpp.
void attention_in_tiles(int64_t threads, Projection<const bf16> query, Projection<const bf16> key,
                        Projection<const bf16> value, bf16* out, float* lse, Sequences s, double p, int64_t seed);

void attention_backward_in_tiles(int64_t threads, Projection<const bf16> query, Projection<const bf16> key,
                                 Projection<const bf16> value, const bf16* out, const float* lse, const bf16* grad,
                                 Projection<bf16> query_grad, Projection<bf16> key_grad, Projection<bf16> value_grad,
                                 Sequences s, double p, int64_t seed);

// Adds the sums of every sequence, [count, width], up in their order.
inline void add_up(const std::vector<float>& of_sequences, float* total, int64_t width) {
    for (size_t first = 0; first < of_sequences.size(); first += width)
        for (int64_t j = 0; j < width; j++) total[j] += of_sequences[first + j];
}
