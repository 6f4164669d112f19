// Vectors of as many floats as a register of the processor holds, in the compiler's own vector types.
//
// From a loop over bf16 numbers compilers make half registers and many moves, so such loops say in these what is meant.
// Where AVX-512 has one instruction for what takes several otherwise, and compilers do not find it, it is named.
#pragma once

#include "common.h"

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

#ifdef __AVX512F__
#include <immintrin.h>
#endif

constexpr int64_t kLanes = LANES;
typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

inline Floats all(float x) { return Floats{} + x; }
inline Words all(uint32_t x) { return Words{} + x; }

inline Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Words load(const uint32_t* from) {
    Words x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Floats load(const bf16* from) {
    Halves x;
    std::memcpy(&x, from, sizeof x);
#ifdef __AVX512F__
    return (Floats)((Words)_mm512_cvtepu16_epi32((__m256i)x) << 16);
#else
    return (Floats)(__builtin_convertvector(x, Words) << 16);
#endif
}

inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }

// Rounds to nearest, ties to even, as PyTorch does.
inline void store(bf16* to, Floats x) {
#ifdef __AVX512BF16__
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
#else
    const Words bits = (Words)x;
    const Words number = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Halves rounded = __builtin_convertvector(x == x ? number : all(0x7fc0u), Halves);
#endif
    std::memcpy(to, &rounded, sizeof rounded);
}

// body(j, count) for every vector of n numbers from j on; all but the last are `Whole`, the last may have `count`.
struct Whole {};

template <typename Body>
inline __attribute__((always_inline)) void in_lanes(int64_t n, Body body) {
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) body(j, Whole{});
    if (j < n) body(j, n - j);
}

template <typename T>
inline Floats load(const T* from, Whole, float = 0) {
    return load(from);
}

// The first `count`, `rest` in the others.
template <typename T>
inline Floats load(const T* from, int64_t count, float rest = 0) {
    float some[kLanes];
    for (int64_t i = 0; i < kLanes; i++) some[i] = i < count ? to_float(from[i]) : rest;
    return load(some);
}

template <typename T>
inline void store(T* to, Floats x, Whole) {
    store(to, x);
}

template <typename T>
inline void store(T* to, Floats x, int64_t count) {
    T some[kLanes];
    store(some, x);
    std::memcpy(to, some, count * sizeof(T));
}

inline float sum(Floats x) {
    float lanes[kLanes];
    store(lanes, x);
    for (int64_t width = kLanes / 2; width > 0; width /= 2)
        for (int64_t i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

inline float largest(Floats x) {
    float lanes[kLanes];
    store(lanes, x);
    return *std::max_element(lanes, lanes + kLanes);
}

inline Floats absolute(Floats x) { return (Floats)((Words)x & 0x7fffffffu); }

// j, j + 1, j + 2, ...
inline Words numbers_from(int64_t j) {
    Words x;
    for (uint32_t i = 0; i < kLanes; i++) x[i] = i;
    return x + static_cast<uint32_t>(j);
}

// `mix` and `keep` of common.h.
inline Words mix(Words x) {
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ (x >> 16);
}

// x where kept, times `rescale`; else 0. One of row keys and columns may be the same for all lanes.
inline Floats dropped(Floats x, Words keys, Words columns, uint32_t threshold, float rescale) {
    return mix(columns * 0x9e3779b9u ^ keys) >= threshold ? x * rescale : all(0.0f);
}

// The larger one; of a NaN and a number `b`.
inline Floats larger(Floats a, Floats b) {
#ifdef __AVX512F__
    return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return a > b ? a : b;
#endif
}

// 1 / x to a relative error of 1e-7.
inline Floats reciprocal(Floats x) {
#ifdef __AVX512F__
    const Floats y = (Floats)_mm512_rcp14_ps((__m512)x);
    return y * (2.0f - x * y);
#else
    return 1.0f / x;
#endif
}

// e^x to a relative error of 2e-7, for x up to 88. Below -87 it is e^-87; NaN stays NaN.
inline Floats fast_exp(Floats x) {
    x = larger(all(-87.0f), x);
    const float magic = 12582912.0f;  // added and subtracted it rounds: 1.5 * 2^23
    const Floats shifted = x * 1.44269504f + magic, n = shifted - magic;
    const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats y = r * (1.0f / 720) + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return (Floats)((Words)y + ((Words)shifted << 23));  // times 2^n, whose n are the last bits of `shifted`
}
