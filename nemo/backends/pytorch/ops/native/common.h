// What the kernels share: number types, the dropout hash, elementary functions, a parallel loop.
//
// Kernels are written as plain loops that the compiler turns into vector code for the machine it runs on, or in the
// vectors of lanes.h. All arithmetic is in float; `T` is the type activations are stored in, float or bf16. Flags that
// let a compiler assume there are no NaNs are not used: a loss that is not finite has to be seen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

struct bf16 {
    uint16_t bits;
};

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) {
    uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void store(float* to, float x) { *to = x; }

// Rounds to nearest, ties to even, as PyTorch does.
inline void store(bf16* to, float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to->bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

// Dropout: element (row, column) of a site is kept where hash(row, column, seed) >= threshold. The same function
// as ops/dropout.py's, so a kernel's mask is its reference's. `mix` is the finalizer of MurmurHash3.
inline uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ (x >> 16);
}

inline uint32_t row_key(int64_t seed, int64_t row) {
    return mix(static_cast<uint32_t>(seed) ^ mix(static_cast<uint32_t>(row) + 0x9e3779b9u));
}

inline bool keep(uint32_t key, uint32_t column, uint32_t threshold) {
    return mix((column * 0x9e3779b9u) ^ key) >= threshold;
}

inline uint32_t threshold_of(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

// e^x to a relative error of 2e-7. x beyond what float can hold is clamped; NaN stays NaN.
inline float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    uint32_t power = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;  // 2^n
    float scale;
    std::memcpy(&scale, &power, sizeof scale);
    return y * scale;
}

// Memory that begins with a cache line: the last bit of a BLAS product may depend on where its operands lie.
template <typename T>
struct LineAllocator {
    using value_type = T;
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    template <typename U>
    bool operator==(const LineAllocator<U>&) const { return true; }
    template <typename U>
    bool operator!=(const LineAllocator<U>&) const { return false; }
    LineAllocator() = default;
    template <typename U>
    LineAllocator(const LineAllocator<U>&) {}
};

template <typename T>
using Buffer = std::vector<T, LineAllocator<T>>;

// body(first, last, thread) for a share of n items on each thread. Nothing here asks OpenMP for a thread's number: where
// clang's runtime and torch's are in one process, one may answer for the other.
template <typename Body>
void parallel(int64_t threads, int64_t n, Body body) {
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(threads))
    for (int64_t thread = 0; thread < threads; thread++)
        body(n * thread / threads, n * (thread + 1) / threads, thread);
}

// Sums that every thread makes for itself, [threads][width], added up at the end.
class ThreadSums {
  public:
    ThreadSums(int64_t threads, int64_t width) : width_(width), sums_(threads * width, 0.0f) {}

    float* of(int64_t thread) { return sums_.data() + thread * width_; }

    void add_to(float* total) const {
        for (size_t i = 0; i < sums_.size(); i++) total[i % width_] += sums_[i];
    }

  private:
    int64_t width_;
    std::vector<float> sums_;
};

// Exports a template of the element type under the two names that ops/native/__init__.py calls.
#define FOR_BOTH_TYPES(name, parameters, arguments)                                  \
    extern "C" void name##_f32 parameters(float) { name<float> arguments; }          \
    extern "C" void name##_bf16 parameters(bf16) { name<bf16> arguments; }
