// Tables of 128 bytes: 7 spikes look up one of 128 sums for 64 rows at once. AVX-512 with VBMI.
//
// Within a vector of 64 rows, byte 2i belongs to row i and byte 2i + 1 to row 32 + i: when byte sums are widened, the
// even and the odd bytes are then rows in order.
#include "tables.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VBMI__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace bitspike {
namespace {

constexpr std::size_t kGroup = 7, kRows = 64, kColumns = 2;
// Of one lookup in one column: the sums of the first six weights, and the seventh (in each of four bytes) to be added
// for the other half of the table. Both halves in memory would double the traffic from the second-level cache.
constexpr std::size_t kHalf = 64, kLast = 4;
// Bytes from the table in use to the one that is prefetched: about as many cycles for any number of vectors.
constexpr std::size_t ahead(int vectors) { return 4096 / static_cast<std::size_t>(vectors); }

#include "tables_shared.inl"

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(void* p, __m512i v) { _mm512_storeu_si512(p, v); }
inline __mmask64 first_lanes(std::size_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

// [lookup][column][64] sums, then [lookup][column] seventh weights.
void fill(const std::int8_t* weights, std::size_t pitch, std::size_t lookups, std::uint8_t* tables) {
  auto* last = reinterpret_cast<std::uint32_t*>(tables + lookups * kColumns * kHalf);
  for (std::size_t column = 0; column < kColumns; ++column) {
    for (std::size_t k = 0; k < lookups; ++k) {
      const std::int8_t* w = weights + (column * pitch + k) * kGroup;
      int base = 0;
      for (std::size_t i = 0; i < kGroup; ++i) base += std::max(0, -w[i]);
      fill_table(w, kGroup - 1, base, tables + (k * kColumns + column) * kHalf);
      // No byte of the sum leaves 0 to 255, so one 32-bit addition does four of them, of either sign.
      last[k * kColumns + column] = static_cast<std::uint32_t>(w[kGroup - 1]) * 0x01010101u;
    }
  }
}

#include "tables_avx512_gather.inl"
#include "tables_avx512_dot.inl"
#include "tables_avx512_lif.inl"

}  // namespace

const TableKernels* avx512_tables() {
  static const TableKernels kernels{"avx512", kGroup, kRows, kColumns, kColumns * (kHalf + kLast), sizeof(Map),
                                    fill, planes, gather, dot, lif, pack, widen};
  return &kernels;
}

}  // namespace bitspike

#else

namespace bitspike {
const TableKernels* avx512_tables() { return nullptr; }
}  // namespace bitspike

#endif
