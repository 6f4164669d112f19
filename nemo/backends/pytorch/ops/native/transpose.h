// Blocks of a matrix, transposed.
#pragma once

#include "common.h"

typedef uint16_t HalfLanes __attribute__((vector_size(32)));
typedef uint32_t WordLanes __attribute__((vector_size(64)));

// Sixteen rows of sixteen, by four rounds of interleaving. Lanes holds sixteen of T.
template <typename Lanes, typename T>
inline void transpose_16x16(const T* from, int64_t ld_from, T* to, int64_t ld_to) {
    Lanes rows[16], mixed[16];
    for (int i = 0; i < 16; i++) std::memcpy(&rows[i], from + i * ld_from, sizeof(Lanes));
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            mixed[2 * i] = __builtin_shufflevector(rows[i], rows[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6,
                                                   22, 7, 23);
            mixed[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                                       29, 14, 30, 15, 31);
        }
        std::memcpy(rows, mixed, sizeof rows);
    }
    for (int i = 0; i < 16; i++) std::memcpy(to + i * ld_to, &rows[i], sizeof(Lanes));
}

// 16-bit numbers, from [rows, columns], rows ld_from apart -> to [columns, rows], rows ld_to apart. In blocks of whole cache lines on
// both sides.
inline void transpose(const uint16_t* from, int64_t ld_from, uint16_t* to, int64_t ld_to, int64_t rows,
                      int64_t columns) {
    constexpr int64_t kBlock = 32, kTile = 16;
    for (int64_t c = 0; c < columns; c += kBlock)
        for (int64_t r = 0; r < rows; r += kBlock)
            for (int64_t j = c; j < std::min(columns, c + kBlock); j += kTile)
                for (int64_t i = r; i < std::min(rows, r + kBlock); i += kTile)
                    if (i + kTile <= rows && j + kTile <= columns) {
                        transpose_16x16<HalfLanes>(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
                    } else {
                        for (int64_t y = i; y < std::min(rows, i + kTile); y++)
                            for (int64_t x = j; x < std::min(columns, j + kTile); x++)
                                to[x * ld_to + y] = from[y * ld_from + x];
                    }
}
