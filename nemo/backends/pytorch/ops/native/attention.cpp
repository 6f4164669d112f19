// Attention within the sequences of a packed batch, softmax and dropout fused, after FlashAttention (Dao et al. 2022,
// arXiv 2205.14135): the scores of a block of queries are all that is ever held, and backward makes them again.
//
// One work item is one head of one sequence. Its queries, keys and values are copied into contiguous float buffers, the
// biases added. bf16 takes attention_tiles.cpp instead where the processor multiplies bf16 matrices.
#include "attention.h"

Brgemm brgemm;
Release brgemm_release;

namespace {

using Sgemm = void (*)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                       const int*, const float*, const int*, const float*, float*, const int*);

Sgemm sgemm;

// c [m, n] (+)= a b, with a [m, k] and b [k, n], either stored transposed; rows of c are ldc apart.
void product(int64_t m, int64_t n, int64_t k, const float* a, bool a_transposed, const float* b, bool b_transposed,
             float* c, int64_t ldc, bool add) {
    // BLAS counts by columns, so it is asked for c^T = b^T a^T.
    int m_ = m, n_ = n, k_ = k, lda = a_transposed ? m : k, ldb = b_transposed ? k : n, ldc_ = ldc;
    float one = 1, beta = add ? 1 : 0;
    sgemm(b_transposed ? "T" : "N", a_transposed ? "T" : "N", &n_, &m_, &k_, &one, b, &ldb, a, &lda, &beta, c, &ldc_);
}

template <typename T>
void load(Projection<const T> from, int64_t first, int64_t count, int64_t head, int64_t width, float* to) {
    const float* b = from.bias ? from.bias + head * width : nullptr;
    for (int64_t i = 0; i < count; i++) {
        const T* x = from.data + (first + i) * from.stride + head * width;
        for (int64_t d = 0; d < width; d++) to[i * width + d] = to_float(x[d]) + (b ? b[d] : 0.0f);
    }
}

template <typename T>
void save(Projection<T> to, int64_t first, int64_t count, int64_t head, int64_t width, const float* from,
          float* bias_sums) {
    float* sums = bias_sums + head * width;
    for (int64_t i = 0; i < count; i++) {
        T* y = to.data + (first + i) * to.stride + head * width;
        for (int64_t d = 0; d < width; d++) {
            store(y + d, from[i * width + d]);
            sums[d] += from[i * width + d];
        }
    }
}

// What one thread works in.
struct Workspace {
    Buffer<float> query, key, value, grad, weights, score_grads;
    Buffer<float> scores, weight_grads, out, query_grad, key_grad, value_grad;

    Workspace(int64_t block, int64_t keys, int64_t width, bool backward)
        : query(block * width), key(keys * width), value(keys * width), weights(block * keys), scores(block * keys),
          out(block * width) {
        if (!backward) return;
        for (Buffer<float>* of_queries : {&grad, &query_grad}) of_queries->resize(block * width);
        for (Buffer<float>* of_scores : {&score_grads, &weight_grads}) of_scores->resize(block * keys);
        for (Buffer<float>* of_keys : {&key_grad, &value_grad}) of_keys->resize(keys * width);
    }
};

// So many queries at a time that their scores stay in the cache.
int64_t block_of(int64_t queries, int64_t keys) {
    const int64_t block = (std::max<int64_t>(32, 32768 / std::max<int64_t>(keys, 1)) + 31) / 32 * 32;
    return std::max<int64_t>(1, std::min(block, queries));
}

template <typename T>
void forward(int64_t threads, Projection<const T> query, Projection<const T> key, Projection<const T> value, T* out,
             float* lse, Sequences s, double p, int64_t seed) {
    const int64_t width = s.width, block = block_of(s.longest_queries, s.longest_keys);
    const float scale = 1 / std::sqrt(static_cast<float>(width));
    const uint32_t threshold = threshold_of(p);
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        Workspace w(block, s.longest_keys, width, false);
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < s.count * s.heads; item++) {
            const int64_t sequence = item / s.heads, head = item % s.heads;
            const int64_t q0 = s.queries[sequence], q1 = s.queries[sequence + 1];
            const int64_t k0 = s.keys[sequence], n = s.keys[sequence + 1] - k0;
            if (n == 0) {  // nothing to look at: a mixture of nothing
                for (int64_t row = q0; row < q1; row++) {
                    lse[row * s.heads + head] = 0;
                    for (int64_t d = 0; d < width; d++) store(out + (row * s.heads + head) * width + d, 0.0f);
                }
            }
            if (q1 == q0 || n == 0) continue;
            load(key, k0, n, head, width, w.key.data());
            load(value, k0, n, head, width, w.value.data());
            for (int64_t first = q0; first < q1; first += block) {
                const int64_t m = std::min(block, q1 - first);
                load(query, first, m, head, width, w.query.data());
                product(m, n, width, w.query.data(), false, w.key.data(), true, w.scores.data(), n, false);
                for (int64_t i = 0; i < m; i++) {
                    float* x = w.scores.data() + i * n;
                    float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
                    for (int64_t j = 0; j < n; j++) most = x[j] > most ? x[j] : most;
#pragma omp simd reduction(+ : sum)
                    for (int64_t j = 0; j < n; j++) {
                        x[j] = fast_exp((x[j] - most) * scale);
                        sum += x[j];
                    }
                    const int64_t row = (first + i) * s.heads + head;
                    lse[row] = most * scale + std::log(sum);
                    const float factor = static_cast<float>(1 / (1 - p)) / sum;
                    float* to = w.weights.data() + i * n;
                    if (threshold) {
                        const uint32_t key_of_row = row_key(seed, row);
                        for (int64_t j = 0; j < n; j++)
                            store(to + j, keep(key_of_row, static_cast<uint32_t>(j), threshold) ? x[j] * factor : 0.0f);
                    } else {
                        for (int64_t j = 0; j < n; j++) store(to + j, x[j] * factor);
                    }
                }
                product(m, width, n, w.weights.data(), false, w.value.data(), false, w.out.data(), width, false);
                for (int64_t i = 0; i < m; i++)
                    for (int64_t d = 0; d < width; d++)
                        store(out + ((first + i) * s.heads + head) * width + d, w.out[i * width + d]);
            }
        }
    }
}

template <typename T>
void backward(int64_t threads, Projection<const T> query, Projection<const T> key, Projection<const T> value,
              const T* out, const float* lse, const T* grad, Projection<T> query_grad, Projection<T> key_grad,
              Projection<T> value_grad, Sequences s, double p, int64_t seed) {
    const int64_t width = s.width, block = block_of(s.longest_queries, s.longest_keys);
    const int64_t hidden = s.heads * width;
    const float scale = 1 / std::sqrt(static_cast<float>(width)), rescale = static_cast<float>(1 / (1 - p));
    const uint32_t threshold = threshold_of(p);
    // A sequence's own sums: which thread works on it is chance, and a training has to repeat to the bit.
    std::vector<float> bias_sums(s.count * 3 * hidden, 0.0f);
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        Workspace w(block, s.longest_keys, width, true);
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < s.count * s.heads; item++) {
            const int64_t sequence = item / s.heads, head = item % s.heads;
            const int64_t q0 = s.queries[sequence], q1 = s.queries[sequence + 1];
            const int64_t k0 = s.keys[sequence], n = s.keys[sequence + 1] - k0;
            float* sums = bias_sums.data() + sequence * 3 * hidden;
            if (n == 0) {
                std::fill(w.query_grad.begin(), w.query_grad.end(), 0.0f);
                for (int64_t first = q0; first < q1; first += block)
                    save(query_grad, first, std::min(block, q1 - first), head, width, w.query_grad.data(), sums);
                continue;
            }
            load(key, k0, n, head, width, w.key.data());
            load(value, k0, n, head, width, w.value.data());
            if (q1 == q0) {
                std::fill_n(w.key_grad.data(), n * width, 0.0f);
                std::fill_n(w.value_grad.data(), n * width, 0.0f);
            }
            for (int64_t first = q0; first < q1; first += block) {
                const int64_t m = std::min(block, q1 - first);
                const bool add = first > q0;
                load(query, first, m, head, width, w.query.data());
                load(Projection<const T>{grad, hidden, nullptr}, first, m, head, width, w.grad.data());
                product(m, n, width, w.query.data(), false, w.key.data(), true, w.scores.data(), n, false);
                product(m, n, width, w.grad.data(), false, w.value.data(), true, w.weight_grads.data(), n, false);
                for (int64_t i = 0; i < m; i++) {
                    const int64_t row = (first + i) * s.heads + head;
                    const T *o = out + row * width, *g = grad + row * width;
                    float inner = 0;  // the softmax's own term: sum over keys of weight times its gradient
#pragma omp simd reduction(+ : inner)
                    for (int64_t d = 0; d < width; d++) inner += to_float(o[d]) * to_float(g[d]);
                    const float *x = w.scores.data() + i * n, *dw = w.weight_grads.data() + i * n;
                    float *weights = w.weights.data() + i * n, *score_grads = w.score_grads.data() + i * n;
                    const float row_lse = lse[row];
                    const uint32_t key_of_row = row_key(seed, row);
                    if (threshold) {
                        for (int64_t j = 0; j < n; j++) {
                            const float weight = fast_exp(x[j] * scale - row_lse);
                            const float kept = keep(key_of_row, static_cast<uint32_t>(j), threshold) ? rescale : 0.0f;
                            store(weights + j, weight * kept);
                            store(score_grads + j, weight * (dw[j] * kept - inner) * scale);
                        }
                    } else {
                        for (int64_t j = 0; j < n; j++) {
                            const float weight = fast_exp(x[j] * scale - row_lse);
                            store(weights + j, weight);
                            store(score_grads + j, weight * (dw[j] - inner) * scale);
                        }
                    }
                }
                product(n, width, m, w.weights.data(), true, w.grad.data(), false, w.value_grad.data(), width, add);
                product(n, width, m, w.score_grads.data(), true, w.query.data(), false, w.key_grad.data(), width, add);
                product(m, width, n, w.score_grads.data(), false, w.key.data(), false, w.query_grad.data(), width,
                        false);
                save(query_grad, first, m, head, width, w.query_grad.data(), sums);
            }
            save(key_grad, k0, n, head, width, w.key_grad.data(), sums + hidden);
            save(value_grad, k0, n, head, width, w.value_grad.data(), sums + 2 * hidden);
        }
    }
    add_up(bias_sums, query_grad.bias, 3 * hidden);
}

}  // namespace

extern "C" void use_matrix_products(void* sgemm_, void* brgemm_, void* brgemm_release_) {
    sgemm = reinterpret_cast<Sgemm>(sgemm_);
    brgemm = reinterpret_cast<Brgemm>(brgemm_);
    brgemm_release = reinterpret_cast<Release>(brgemm_release_);
}

// Queries [R, heads * width]; keys and values [N, heads * width]; their rows `*_stride` apart. bias [3, heads * width]
// of all three. out [R, heads * width]; lse [R, heads], the logarithm of every softmax's divisor.
#define FORWARD(T)                                                                                                    \
    (int64_t threads, const T* query, int64_t query_stride, const T* key, const T* value, int64_t key_stride,         \
     float* bias, T* out, float* lse, const int32_t* query_offsets, const int32_t* key_offsets, int64_t count,        \
     int64_t heads, int64_t width, int64_t longest_queries, int64_t longest_keys, double p, int64_t seed)
#define FORWARD_ARGUMENTS(T)                                                                                          \
    threads, Projection<const T>{query, query_stride, bias},                                                          \
        Projection<const T>{key, key_stride, bias + heads * width},                                                   \
        Projection<const T>{value, key_stride, bias + 2 * heads * width}, out, lse,                                   \
        Sequences{query_offsets, key_offsets, count, heads, width, longest_queries, longest_keys}, p, seed

extern "C" void attention_f32 FORWARD(float) { forward<float>(FORWARD_ARGUMENTS(float)); }

extern "C" void attention_bf16 FORWARD(bf16) {
    brgemm ? attention_in_tiles(FORWARD_ARGUMENTS(bf16)) : forward<bf16>(FORWARD_ARGUMENTS(bf16));
}

// Gradients in the shapes and strides of what they are of; bias_grad is added to.
#define BACKWARD(T)                                                                                                   \
    (int64_t threads, const T* query, int64_t query_stride, const T* key, const T* value, int64_t key_stride,         \
     float* bias, const T* out, const float* lse, const T* grad, T* query_grad, T* key_grad, T* value_grad,           \
     float* bias_grad, const int32_t* query_offsets, const int32_t* key_offsets, int64_t count, int64_t heads,        \
     int64_t width, int64_t longest_queries, int64_t longest_keys, double p, int64_t seed)
#define BACKWARD_ARGUMENTS(T)                                                                                         \
    threads, Projection<const T>{query, query_stride, bias},                                                          \
        Projection<const T>{key, key_stride, bias + heads * width},                                                   \
        Projection<const T>{value, key_stride, bias + 2 * heads * width}, out, lse, grad,                             \
        Projection<T>{query_grad, query_stride, bias_grad}, Projection<T>{key_grad, key_stride, nullptr},             \
        Projection<T>{value_grad, key_stride, nullptr},                                                               \
        Sequences{query_offsets, key_offsets, count, heads, width, longest_queries, longest_keys}, p, seed

extern "C" void attention_backward_f32 BACKWARD(float) { backward<float>(BACKWARD_ARGUMENTS(float)); }

extern "C" void attention_backward_bf16 BACKWARD(bf16) {
    brgemm ? attention_backward_in_tiles(BACKWARD_ARGUMENTS(bf16)) : backward<bf16>(BACKWARD_ARGUMENTS(bf16));
}
