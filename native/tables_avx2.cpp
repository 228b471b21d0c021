// Tables of 16 bytes: 4 spikes look up one of 16 sums for 32 rows at once. AVX2.
//
// Within a vector of 32 rows, byte 2i belongs to row i and byte 2i + 1 to row 16 + i: when byte sums are widened, the
// even and the odd bytes are then rows in order.
#include "tables.hpp"

#if defined(__AVX2__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace bitspike {
namespace {

constexpr std::size_t kGroup = 4, kRows = 32, kColumns = 2, kTable = 16;

#include "tables_shared.inl"

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
inline __m256i load_twice(const void* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// [lookup][column][16] sums.
void fill(const std::int8_t* weights, std::size_t pitch, std::size_t lookups, std::uint8_t* tables) {
  for (std::size_t column = 0; column < kColumns; ++column) {
    for (std::size_t k = 0; k < lookups; ++k) {
      const std::int8_t* w = weights + (column * pitch + k) * kGroup;
      int base = 0;
      for (std::size_t i = 0; i < kGroup; ++i) base += std::max(0, -w[i]);
      fill_table(w, kGroup, base, tables + (k * kColumns + column) * kTable);
    }
  }
}

#include "tables_avx2_gather.inl"
#include "tables_avx2_dot.inl"
#include "tables_avx2_lif.inl"

}  // namespace

const TableKernels* avx2_tables() {
  static const TableKernels kernels{"avx2", kGroup, kRows, kColumns, kColumns * kTable, sizeof(Map),
                                    fill,   planes, gather, dot,     lif,               pack,
                                    widen};
  return &kernels;
}

}  // namespace bitspike

#else

namespace bitspike {
const TableKernels* avx2_tables() { return nullptr; }
}  // namespace bitspike

#endif
