// Attention in bf16 on a processor that multiplies bf16 matrices, as in attention.cpp, laid out in tiles for that.
//
// A product of blocks c [m, n] = a [m, k] b [k, n] takes `a` as it is and `b` in pairs of rows, [k/2, n, 2]. All sizes
// are rounded up to whole tiles with zeros, so oneDNN makes programs for few shapes. One work item is some heads of one
// sequence, as many as stay in the cache: they are read and written row by row. Backward works on the transposed
// scores: what belongs to a query is a vector then, softmax and dropout are computed for a register of queries at once,
// and the gradients of keys and values need nothing transposed.
#include "attention.h"
#include "lanes.h"
#include "transpose.h"

namespace {

constexpr int64_t kTile = 32;
constexpr int64_t kCache = 1 << 20;  // bytes that one work item may fill, so that they stay in the second cache

int64_t round_up(int64_t n) { return (n + kTile - 1) / kTile * kTile; }

// rows [n, width] -> [width/2, n, 2], the pairs of their transpose.
void pair_columns(const bf16* rows, bf16* pairs, int64_t n, int64_t width) {
    const auto* from = reinterpret_cast<const uint32_t*>(rows);
    auto* to = reinterpret_cast<uint32_t*>(pairs);
    for (int64_t i = 0; i < n; i += kTile / 2)
        for (int64_t j = 0; j < width / 2; j += kTile / 2)
            transpose_16x16<WordLanes>(from + i * (width / 2) + j, width / 2, to + j * n + i, n);
}

// rows [n, width] -> [n/2, width, 2].
void pair_rows(const bf16* rows, bf16* pairs, int64_t n, int64_t width) {
    for (int64_t i = 0; i < n; i += 2) {
        const bf16 *even = rows + i * width, *odd = even + width;
        auto* to = reinterpret_cast<uint32_t*>(pairs + i * width);
        for (int64_t j = 0; j < width; j++) to[j] = even[j].bits | static_cast<uint32_t>(odd[j].bits) << 16;
    }
}

// Heads of a sequence, each [round_up(longest), round_up(width)], zeros where there is nothing.
class Heads {
  public:
    Heads(int64_t count, int64_t longest, int64_t width)
        : width_(width), wide_(round_up(width)), size_(round_up(longest) * wide_), data_(count * size_) {}

    bf16* of(int64_t head) { return data_.data() + head * size_; }

    // Heads first_head to last_head of so many tokens, and their bias.
    void read(Projection<const bf16> from, int64_t first, int64_t tokens, int64_t first_head, int64_t last_head) {
        for (int64_t i = 0; i < tokens; i++)
            for (int64_t head = first_head; head < last_head; head++) {
                const bf16* x = from.data + (first + i) * from.stride + head * width_;
                const float* bias = from.bias + head * width_;
                bf16* y = of(head - first_head) + i * wide_;
                if (from.bias)
                    in_lanes(width_, [=](int64_t d, auto n) { store(y + d, load(x + d, n) + load(bias + d, n), n); });
                else
                    std::memcpy(y, x, width_ * sizeof(bf16));
                if (wide_ > width_) std::memset(y + width_, 0, (wide_ - width_) * sizeof(bf16));
            }
        for (int64_t head = 0; head < last_head - first_head; head++)
            std::memset(of(head) + tokens * wide_, 0, (round_up(tokens) - tokens) * wide_ * sizeof(bf16));
    }

    // The other way, and the sum of the tokens is added to bias_sums, if that is not null.
    void write(Projection<bf16> to, int64_t first, int64_t tokens, int64_t first_head, int64_t last_head,
              float* bias_sums) {
        for (int64_t i = 0; i < tokens; i++)
            for (int64_t head = first_head; head < last_head; head++) {
                const bf16* x = of(head - first_head) + i * wide_;
                std::memcpy(to.data + (first + i) * to.stride + head * width_, x, width_ * sizeof(bf16));
                if (!bias_sums) continue;
                float* sums = bias_sums + head * width_;
                in_lanes(width_, [=](int64_t d, auto n) { store(sums + d, load(sums + d, n) + load(x + d, n), n); });
            }
    }

  private:
    int64_t width_, wide_, size_;
    Buffer<bf16> data_;
};

// from [rows, wide] in float -> bf16, each row times its factor.
void rounded(const float* from, bf16* to, int64_t rows, int64_t wide, const float* factors) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t d = 0; d < wide; d += kLanes)
            store(to + i * wide + d, load(from + i * wide + d) * (factors ? factors[i] : 1.0f));
}

// The work: each item is one of `groups` groups of `size` heads of a sequence.
struct Items {
    int64_t size, groups, count;

    Items(const Sequences& s, int64_t bytes_of_head, int64_t threads) {
        size = std::min(s.heads, std::max<int64_t>(1, kCache / bytes_of_head));
        while (size > 1 && s.count * ((s.heads + size - 1) / size) < 8 * threads) size--;  // shares as even as can be
        groups = (s.heads + size - 1) / size;
        count = s.count * groups;
    }
};

}  // namespace

void attention_in_tiles(int64_t threads, Projection<const bf16> query, Projection<const bf16> key,
                        Projection<const bf16> value, bf16* out, float* lse, Sequences s, double p, int64_t seed) {
    const int64_t width = s.width, wide = round_up(width), longest = round_up(s.longest_keys);
    const int64_t longest_queries = round_up(s.longest_queries), block = std::min<int64_t>(64, longest_queries);
    const float scale = 1 / std::sqrt(static_cast<float>(width)), rescale = static_cast<float>(1 / (1 - p));
    const uint32_t threshold = threshold_of(p);
    const Projection<bf16> out_of_heads{out, s.heads * width, nullptr};
    const Items items(s, 2 * wide * (2 * longest + longest_queries), threads);
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        Heads queries(items.size, longest_queries, width), keys(items.size, longest, width),
            values(items.size, longest, width);
        Buffer<bf16> key_columns(longest * wide), value_pairs(longest * wide), weights(block * longest);
        Buffer<float> scores(block * longest), mixture(block * wide), factors(block);
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < items.count; item++) {
            const int64_t sequence = item / items.groups, head0 = item % items.groups * items.size;
            const int64_t head1 = std::min(s.heads, head0 + items.size);
            const int64_t q0 = s.queries[sequence], asking = s.queries[sequence + 1] - q0;
            const int64_t k0 = s.keys[sequence], n = s.keys[sequence + 1] - k0, n_up = round_up(n);
            if (asking == 0) continue;
            if (n == 0) {  // nothing to look at: a mixture of nothing
                for (int64_t i = q0; i < q0 + asking; i++) {
                    std::fill(lse + i * s.heads + head0, lse + i * s.heads + head1, 0.0f);
                    std::memset(out + (i * s.heads + head0) * width, 0, (head1 - head0) * width * sizeof(bf16));
                }
                continue;
            }
            queries.read(query, q0, asking, head0, head1);
            keys.read(key, k0, n, head0, head1);
            values.read(value, k0, n, head0, head1);
            for (int64_t head = head0; head < head1; head++) {
                pair_columns(keys.of(head - head0), key_columns.data(), n_up, wide);
                pair_rows(values.of(head - head0), value_pairs.data(), n_up, wide);
                for (int64_t first = 0; first < asking; first += block) {
                    const int64_t m = std::min(block, asking - first), m_up = round_up(m);
                    bf16* these = queries.of(head - head0) + first * wide;
                    brgemm(m_up, n_up, wide, wide, n_up, n_up, false, these, key_columns.data(), scores.data(), true);
                    for (int64_t i = 0; i < m; i++) {
                        const int64_t row = (q0 + first + i) * s.heads + head;
                        const float* x = scores.data() + i * n_up;
                        bf16* w = weights.data() + i * n_up;
                        Floats top = all(-INFINITY), total = {};
                        in_lanes(n, [&](int64_t j, auto count) {
                            top = larger(top, load(x + j, count, -INFINITY));
                        });
                        const float most = largest(top);
                        const Words key_of_row = all(row_key(seed, row));
                        in_lanes(n, [&](int64_t j, auto count) {
                            Floats weight = fast_exp((load(x + j, count, -INFINITY) - most) * scale);
                            total += weight;
                            if (threshold)
                                weight = dropped(weight, key_of_row, numbers_from(j), threshold, 1);
                            store(w + j, weight, count);
                        });
                        std::memset(w + n, 0, (n_up - n) * sizeof(bf16));
                        lse[row] = most * scale + std::log(sum(total));
                        factors[i] = rescale / sum(total);
                    }
                    brgemm(m_up, wide, n_up, n_up, wide, wide, false, weights.data(), value_pairs.data(),
                           mixture.data(), true);
                    rounded(mixture.data(), these, m, wide, factors.data());
                }
            }
            queries.write(out_of_heads, q0, asking, head0, head1, nullptr);
        }
        brgemm_release(true);
    }
}

void attention_backward_in_tiles(int64_t threads, Projection<const bf16> query, Projection<const bf16> key,
                                 Projection<const bf16> value, const bf16* out, const float* lse, const bf16* grad,
                                 Projection<bf16> query_grad, Projection<bf16> key_grad, Projection<bf16> value_grad,
                                 Sequences s, double p, int64_t seed) {
    const int64_t width = s.width, wide = round_up(width), longest = round_up(s.longest_keys);
    const int64_t hidden = s.heads * width;
    const int64_t longest_queries = round_up(s.longest_queries), block = std::min<int64_t>(128, longest_queries);
    const float scale = 1 / std::sqrt(static_cast<float>(width)), rescale = static_cast<float>(1 / (1 - p));
    const uint32_t threshold = threshold_of(p);
    const Projection<const bf16> grad_of_heads{grad, hidden, nullptr};
    const Items items(s, 4 * wide * (longest + longest_queries), threads);
    // A sequence's own sums: which thread works on it is chance, and a training has to repeat to the bit.
    std::vector<float> bias_sums(s.count * 3 * hidden, 0.0f);
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        Heads queries(items.size, longest_queries, width), grads(items.size, longest_queries, width),
            keys(items.size, longest, width), values(items.size, longest, width);
        Buffer<bf16> key_pairs(longest * wide), query_pairs(block * wide), query_columns(block * wide),
            grad_pairs(block * wide), grad_columns(block * wide), weights(longest * block),
            score_grads(longest * block), score_grads_by_query(block * longest);
        Buffer<float> scores(longest * block), weight_grads(longest * block), of_queries(block * wide),
            of_keys(longest * wide), of_values(longest * wide), lses(block);
        Buffer<float> inners(longest_queries * items.size);
        Buffer<uint32_t> row_keys(block);
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < items.count; item++) {
            const int64_t sequence = item / items.groups, head0 = item % items.groups * items.size;
            const int64_t head1 = std::min(s.heads, head0 + items.size);
            const int64_t q0 = s.queries[sequence], asking = s.queries[sequence + 1] - q0;
            const int64_t k0 = s.keys[sequence], n = s.keys[sequence + 1] - k0, n_up = round_up(n);
            float* sums = bias_sums.data() + sequence * 3 * hidden;
            queries.read(query, q0, asking, head0, head1);
            grads.read(grad_of_heads, q0, asking, head0, head1);
            keys.read(key, k0, n, head0, head1);
            values.read(value, k0, n, head0, head1);
            for (int64_t i = 0; i < asking; i++)
                for (int64_t head = head0; head < head1; head++) {
                    // The softmax's own term: the sum over keys of weight times its gradient.
                    const bf16* o = out + ((q0 + i) * s.heads + head) * width;
                    const bf16* g = grads.of(head - head0) + i * wide;
                    Floats inner = {};
                    in_lanes(width, [&](int64_t d, auto count) { inner += load(o + d, count) * load(g + d, count); });
                    inners[(head - head0) * longest_queries + i] = sum(inner);
                }
            for (int64_t head = head0; head < head1; head++) {
                bf16 *these_keys = keys.of(head - head0), *these_values = values.of(head - head0);
                if (n > 0) pair_rows(these_keys, key_pairs.data(), n_up, wide);
                if (asking == 0 || n == 0) {
                    std::memset(these_keys, 0, n_up * wide * sizeof(bf16));
                    std::memset(these_values, 0, n_up * wide * sizeof(bf16));
                    std::memset(queries.of(head - head0), 0, round_up(asking) * wide * sizeof(bf16));
                    continue;
                }
                for (int64_t first = 0; first < asking; first += block) {
                    const int64_t m = std::min(block, asking - first), m_up = round_up(m);
                    const bool add = first > 0;
                    bf16* these = queries.of(head - head0) + first * wide;
                    const bf16* these_grads = grads.of(head - head0) + first * wide;
                    pair_rows(these, query_pairs.data(), m_up, wide);
                    pair_columns(these, query_columns.data(), m_up, wide);
                    pair_rows(these_grads, grad_pairs.data(), m_up, wide);
                    pair_columns(these_grads, grad_columns.data(), m_up, wide);
                    for (int64_t i = 0; i < m_up; i++) {
                        const int64_t row = (q0 + first + std::min(i, m - 1)) * s.heads + head;
                        lses[i] = lse[row];
                        row_keys[i] = row_key(seed, row);
                    }
                    const float* inner = inners.data() + (head - head0) * longest_queries + first;
                    brgemm(n_up, m_up, wide, wide, m_up, m_up, false, these_keys, query_columns.data(), scores.data(),
                           true);
                    brgemm(n_up, m_up, wide, wide, m_up, m_up, false, these_values, grad_columns.data(),
                           weight_grads.data(), true);
                    for (int64_t j = 0; j < n; j++) {
                        const float *x = scores.data() + j * m_up, *dw = weight_grads.data() + j * m_up;
                        bf16 *w = weights.data() + j * m_up, *ds = score_grads.data() + j * m_up;
                        const Words column = all(static_cast<uint32_t>(j) * 0x9e3779b9u);
                        for (int64_t i = 0; i < m_up; i += kLanes) {
                            const Floats weight = fast_exp(load(x + i) * scale - load(&lses[i]));
                            Floats kept = all(1.0f);
                            if (threshold)
                                kept = mix(column ^ load(&row_keys[i])) >= threshold ? all(rescale) : all(0.0f);
                            store(w + i, weight * kept);
                            store(ds + i, weight * scale * (load(dw + i) * kept - load(inner + i)));
                        }
                    }
                    std::memset(weights.data() + n * m_up, 0, (n_up - n) * m_up * sizeof(bf16));
                    std::memset(score_grads.data() + n * m_up, 0, (n_up - n) * m_up * sizeof(bf16));
                    transpose(reinterpret_cast<const uint16_t*>(score_grads.data()), m_up,
                              reinterpret_cast<uint16_t*>(score_grads_by_query.data()), n_up, n_up, m_up);
                    brgemm(n_up, wide, m_up, m_up, wide, wide, add, weights.data(), grad_pairs.data(),
                           of_values.data(), true);
                    brgemm(n_up, wide, m_up, m_up, wide, wide, add, score_grads.data(), query_pairs.data(),
                           of_keys.data(), true);
                    brgemm(m_up, wide, n_up, n_up, wide, wide, false, score_grads_by_query.data(), key_pairs.data(),
                           of_queries.data(), true);
                    rounded(of_queries.data(), these, m, wide, nullptr);
                }
                rounded(of_keys.data(), these_keys, n, wide, nullptr);
                rounded(of_values.data(), these_values, n, wide, nullptr);
            }
            queries.write(query_grad, q0, asking, head0, head1, sums);
            keys.write(key_grad, k0, n, head0, head1, sums + hidden);
            values.write(value_grad, k0, n, head0, head1, sums + 2 * hidden);
        }
        brgemm_release(true);
    }
    add_up(bias_sums, query_grad.bias, 3 * hidden);
}
