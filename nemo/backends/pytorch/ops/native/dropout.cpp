// Dropout by itself; its gradient is the same of the gradient.
#include "common.h"

namespace {

// x, out [n, d].
template <typename T>
void dropout(int64_t threads, const T* x, T* out, int64_t n, int64_t d, double p, int64_t seed) {
    const uint32_t threshold = threshold_of(p);
    const float rescale = static_cast<float>(1 / (1 - p));
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        for (int64_t i = first; i < last; i++) {
            const uint32_t key = row_key(seed, i), limit = threshold;
            const float factor = rescale;
            for (int64_t j = 0; j < d; j++)
                store(out + i * d + j,
                      to_float(x[i * d + j]) * (keep(key, static_cast<uint32_t>(j), limit) ? factor : 0.0f));
        }
    });
}

}  // namespace

#define PARAMETERS(T) (int64_t threads, const T* x, T* out, int64_t n, int64_t d, double p, int64_t seed)
FOR_BOTH_TYPES(dropout, PARAMETERS, (threads, x, out, n, d, p, seed))
