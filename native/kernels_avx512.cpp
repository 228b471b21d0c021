// AVX-512 with VPOPCNTDQ: one register holds the 16 lanes of a block.
#include "kernels.hpp"

#include "events.hpp"
#include "tables.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>

namespace bitspike {
namespace {

struct Vec {
  __m512i v;

  static Vec load(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static Vec set(std::int32_t value) { return {_mm512_set1_epi32(value)}; }
};

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
inline Vec operator>>(Vec a, Vec b) { return {_mm512_srav_epi32(a.v, b.v)}; }
inline Vec operator<<(Vec a, Vec b) { return {_mm512_sllv_epi32(a.v, b.v)}; }
inline Vec operator&(Vec a, Vec b) { return {_mm512_and_si512(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_epi32(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline Vec where(__mmask16 mask, Vec a, Vec b) { return {_mm512_mask_blend_epi32(mask, b.v, a.v)}; }
inline __mmask16 at_least(Vec a, Vec b) { return _mm512_cmpge_epi32_mask(a.v, b.v); }
inline std::uint32_t to_bits(__mmask16 mask) { return mask; }

#include "kernels_shared.inl"

inline __m512i broadcast(std::uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

// R rows times one block: 1-bit weights.
template <int R>
void signs_tile(const DotTask& task, std::size_t first_row) {
  const std::uint32_t* rows = task.rows + first_row * task.words;
  const std::uint32_t* w = task.weights;
  __m512i sum[R];
  unroll<R>([&](int r) { sum[r] = _mm512_setzero_si512(); });
  for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
    const __m512i weight = _mm512_loadu_si512(w);
    unroll<R>([&](int r) {
      const __m512i hits = _mm512_and_si512(weight, broadcast(rows[r * task.words + k]));
      sum[r] = _mm512_add_epi32(sum[r], _mm512_popcnt_epi32(hits));
    });
  }
  unroll<R>([&](int r) {  // twice the spikes at +1 minus all spikes
    const __m512i ones = _mm512_set1_epi32(task.ones[first_row + r]);
    const __m512i total = _mm512_sub_epi32(_mm512_slli_epi32(sum[r], 1), ones);
    _mm512_storeu_si512(task.out + (first_row + r) * task.out_stride, total);
  });
}

// R rows times one block: two's complement planes, the last of which counts negatively.
template <int R>
void planes_tile(const DotTask& task, std::size_t first_row) {
  const std::uint32_t* rows = task.rows + first_row * task.words;
  const std::uint32_t* w = task.weights;
  __m512i total[R];
  unroll<R>([&](int r) { total[r] = _mm512_setzero_si512(); });
  for (std::size_t plane = 0; plane < task.planes; ++plane) {
    __m512i sum[R];
    unroll<R>([&](int r) { sum[r] = _mm512_setzero_si512(); });
    for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
      const __m512i weight = _mm512_loadu_si512(w);
      unroll<R>([&](int r) {
        const __m512i hits = _mm512_and_si512(weight, broadcast(rows[r * task.words + k]));
        sum[r] = _mm512_add_epi32(sum[r], _mm512_popcnt_epi32(hits));
      });
    }
    const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(plane));
    const bool sign = plane + 1 == task.planes;
    unroll<R>([&](int r) {
      const __m512i scaled = _mm512_sll_epi32(sum[r], shift);
      total[r] = sign ? _mm512_sub_epi32(total[r], scaled) : _mm512_add_epi32(total[r], scaled);
    });
  }
  unroll<R>([&](int r) { _mm512_storeu_si512(task.out + (first_row + r) * task.out_stride, total[r]); });
}

// R rows times one block: pairs of 16-bit values.
template <int R>
void values_tile(const DotTask& task, std::size_t first_row) {
  const std::uint32_t* rows = task.rows + first_row * task.words;
  const std::uint32_t* w = task.weights;
  __m512i sum[R];
  unroll<R>([&](int r) { sum[r] = _mm512_setzero_si512(); });
  for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
    const __m512i weight = _mm512_loadu_si512(w);
    unroll<R>([&](int r) {
      sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(weight, broadcast(rows[r * task.words + k])));
    });
  }
  unroll<R>([&](int r) { _mm512_storeu_si512(task.out + (first_row + r) * task.out_stride, sum[r]); });
}

void dot_bits(const DotTask& task) {
  const bool signs = task.planes == 1;
  std::size_t r = 0;
  for (; r + 8 <= task.row_count; r += 8) signs ? signs_tile<8>(task, r) : planes_tile<8>(task, r);
  for (; r + 4 <= task.row_count; r += 4) signs ? signs_tile<4>(task, r) : planes_tile<4>(task, r);
  for (; r < task.row_count; ++r) signs ? signs_tile<1>(task, r) : planes_tile<1>(task, r);
}

void dot_values(const DotTask& task) {
  std::size_t r = 0;
  for (; r + 8 <= task.row_count; r += 8) values_tile<8>(task, r);
  for (; r + 4 <= task.row_count; r += 4) values_tile<4>(task, r);
  for (; r < task.row_count; ++r) values_tile<1>(task, r);
}

void count_ones(const std::uint32_t* rows, std::size_t row_count, std::size_t words, std::int32_t* ones) {
  for (std::size_t r = 0; r < row_count; ++r) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < words; ++k) sum += _mm_popcnt_u32(rows[r * words + k]);
    ones[r] = sum;
  }
}

void add_bits(const std::uint8_t* bits, std::size_t bytes, std::int32_t* sums) {
  const __m256i minus_one = _mm256_set1_epi32(-1);
  for (std::size_t i = 0; i < bytes; ++i) {
    auto* sum = reinterpret_cast<__m256i*>(sums + 8 * i);
    const __m256i old = _mm256_loadu_si256(sum);
    _mm256_storeu_si256(sum, _mm256_mask_sub_epi32(old, bits[i], old, minus_one));
  }
}

}  // namespace

const Kernels* avx512_kernels() {
  static const Kernels table{"avx512", dot_bits, dot_values, count_ones, add_bits, depthwise, dot_features, lif,
                             avx512_event_kernels(), avx512_tables()};
  return &table;
}

}  // namespace bitspike

#else

namespace bitspike {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace bitspike

#endif
