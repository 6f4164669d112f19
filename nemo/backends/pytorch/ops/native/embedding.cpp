// The sum of three embeddings for every token, and the gradient of the tables.
#include "lanes.h"

namespace {

// sum [n, d] = word[ids] + position[positions] + type[types].
template <typename T>
void embedding_sum(int64_t threads, const int64_t* ids, const int64_t* positions, const int64_t* types, const T* word,
                   const T* position, const T* type, T* sum, int64_t n, int64_t d) {
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        for (int64_t i = first; i < last; i++) {
            const T *w = word + ids[i] * d, *p = position + positions[i] * d, *t = type + types[i] * d;
            in_lanes(d, [=](int64_t j, auto count) {
                store(sum + i * d + j, load(w + j, count) + load(p + j, count) + load(t + j, count), count);
            });
        }
    });
}

// table_rows [m, d]: row k is the sum of the rows of grad [n, d] that order[starts[k]] .. order[starts[k + 1] - 1] name.
template <typename T>
void sum_rows(int64_t threads, const T* grad, const int64_t* order, const int64_t* starts, T* table_rows, int64_t m,
              int64_t d) {
    // Shares of equal numbers of tokens: one row may have a great part of them all.
    parallel(threads, starts[m], [=](int64_t first, int64_t last, int64_t) {
        std::vector<float> row(d);
        float* total = row.data();
        const int64_t from = std::lower_bound(starts, starts + m, first) - starts;
        const int64_t to = std::lower_bound(starts, starts + m, last) - starts;
        for (int64_t k = from; k < to; k++) {
            std::fill(row.begin(), row.end(), 0.0f);
            for (int64_t i = starts[k]; i < starts[k + 1]; i++) {
                const T* g = grad + order[i] * d;
                in_lanes(d, [=](int64_t j, auto count) {
                    store(total + j, load(total + j, count) + load(g + j, count), count);
                });
            }
            T* sums = table_rows + k * d;
            in_lanes(d, [=](int64_t j, auto count) { store(sums + j, load(total + j, count), count); });
        }
    });
}

}  // namespace

#define PARAMETERS(T)                                                                                              \
    (int64_t threads, const int64_t* ids, const int64_t* positions, const int64_t* types, const T* word,           \
     const T* position, const T* type, T* sum, int64_t n, int64_t d)
FOR_BOTH_TYPES(embedding_sum, PARAMETERS, (threads, ids, positions, types, word, position, type, sum, n, d))
#undef PARAMETERS

#define PARAMETERS(T)                                                                                            \
    (int64_t threads, const T* grad, const int64_t* order, const int64_t* starts, T* table_rows, int64_t m, int64_t d)
FOR_BOTH_TYPES(sum_rows, PARAMETERS, (threads, grad, order, starts, table_rows, m, d))
