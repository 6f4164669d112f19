// The transpose of a bf16 matrix.
#include "transpose.h"

// from [rows, columns] -> to [columns, rows], whose rows are ld apart.
extern "C" void transpose_bf16(int64_t threads, const uint16_t* from, uint16_t* to, int64_t rows, int64_t columns,
                               int64_t ld) {
    constexpr int64_t kBlock = 32;
    parallel(threads, (columns + kBlock - 1) / kBlock, [&](int64_t first, int64_t last, int64_t) {
        // Few rows at a time: what is read of a row is one line, and its neighbors are next.
        for (int64_t r = 0; r < rows; r += 256)
            transpose(from + r * columns + first * kBlock, columns, to + first * kBlock * ld + r, ld,
                      std::min<int64_t>(256, rows - r), std::min(columns, last * kBlock) - first * kBlock);
    });
}
