// The transpose of a bf16 matrix.
#include "common.h"

namespace {

typedef uint16_t Lanes __attribute__((vector_size(16)));

// Eight rows of eight, by three rounds of interleaving.
void transpose_8x8(const uint16_t* from, int64_t ld_from, uint16_t* to, int64_t ld_to) {
    Lanes rows[8], mixed[8];
    for (int i = 0; i < 8; i++) std::memcpy(&rows[i], from + i * ld_from, sizeof(Lanes));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            mixed[2 * i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            mixed[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        std::memcpy(rows, mixed, sizeof rows);
    }
    for (int i = 0; i < 8; i++) std::memcpy(to + i * ld_to, &rows[i], sizeof(Lanes));
}

}  // namespace

// from [rows, columns] -> to [columns, rows], whose rows are ld apart.
extern "C" void transpose_bf16(int64_t threads, const uint16_t* from, uint16_t* to, int64_t rows, int64_t columns,
                               int64_t ld) {
    constexpr int64_t kBlock = 32;  // whole cache lines on both sides
    parallel(threads, (columns + kBlock - 1) / kBlock, [&](int64_t first, int64_t last, int64_t) {
        for (int64_t r = 0; r < rows; r += kBlock)
            for (int64_t c = first * kBlock; c < std::min(columns, last * kBlock); c += kBlock)
                for (int64_t i = r; i < std::min(rows, r + kBlock); i += 8)
                    for (int64_t j = c; j < std::min(columns, c + kBlock); j += 8)
                        if (i + 8 <= rows && j + 8 <= columns) {
                            transpose_8x8(from + i * columns + j, columns, to + j * ld + i, ld);
                        } else {
                            for (int64_t y = i; y < std::min(rows, i + 8); y++)
                                for (int64_t x = j; x < std::min(columns, j + 8); x++)
                                    to[x * ld + y] = from[y * columns + x];
                        }
    });
}
