// What oneDNN's bf16 product does on a processor with AMX, in plain loops: c (+)= a b, b in pairs of rows.
#include <cstdint>
#include <cstring>

static float value(uint16_t bits) {
    uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &wide, sizeof x);
    return x;
}

extern "C" void paired_product(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add,
                               const uint16_t* a, const uint16_t* b, float* c, bool) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = add ? c[i * ldc + j] : 0;
            for (int64_t l = 0; l < k; l++) sum += value(a[i * lda + l]) * value(b[l / 2 * ldb * 2 + j * 2 + l % 2]);
            c[i * ldc + j] = sum;
        }
}

extern "C" void release(bool) {}
