// Dropout by itself; its gradient is the same of the gradient.
#include "lanes.h"

namespace {

// x, out [n, d].
template <typename T>
void dropout(int64_t threads, const T* x, T* out, int64_t n, int64_t d, double p, int64_t seed) {
    const uint32_t threshold = threshold_of(p);
    const float rescale = static_cast<float>(1 / (1 - p));
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        for (int64_t i = first; i < last; i++) {
            const Words key = all(row_key(seed, i));
            in_lanes(d, [=](int64_t j, auto count) {
                const Floats y = load(x + i * d + j, count);
                store(out + i * d + j, dropped(y, key, numbers_from(j), threshold, rescale), count);
            });
        }
    });
}

}  // namespace

#define PARAMETERS(T) (int64_t threads, const T* x, T* out, int64_t n, int64_t d, double p, int64_t seed)
FOR_BOTH_TYPES(dropout, PARAMETERS, (threads, x, out, n, d, p, seed))
