// AVX-512 with VPOPCNTDQ: one register holds the 16 lanes of a block.
#include "kernels.hpp"

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

// R rows times one block.
template <int R>
void bits_tile(const DotTask& task, std::size_t first_row) {
  const std::uint32_t* rows = task.rows + first_row * task.words;
  const std::uint32_t* w = task.weights;
  __m512i total[R];
  for (int r = 0; r < R; ++r) total[r] = _mm512_setzero_si512();
  for (std::size_t plane = 0; plane < task.planes; ++plane) {
    __m512i sum[R];
    for (int r = 0; r < R; ++r) sum[r] = _mm512_setzero_si512();
    for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
      const __m512i weight = _mm512_loadu_si512(w);
      for (int r = 0; r < R; ++r) {
        const __m512i hits = _mm512_and_si512(weight, broadcast(rows[r * task.words + k]));
        sum[r] = _mm512_add_epi32(sum[r], _mm512_popcnt_epi32(hits));
      }
    }
    const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(plane));
    for (int r = 0; r < R; ++r) {
      const __m512i scaled = _mm512_sll_epi32(sum[r], shift);
      const bool sign = plane + 1 == task.planes;
      total[r] = sign ? _mm512_sub_epi32(total[r], scaled) : _mm512_add_epi32(total[r], scaled);
    }
  }
  for (int r = 0; r < R; ++r) {
    if (task.planes == 1) {  // -total counts the spikes at +1
      const __m512i ones = _mm512_set1_epi32(task.ones[first_row + r]);
      total[r] = _mm512_sub_epi32(_mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), total[r]), 1), ones);
    }
    _mm512_storeu_si512(task.out + (first_row + r) * task.out_stride, total[r]);
  }
}

template <int R>
void values_tile(const DotTask& task, std::size_t first_row) {
  const std::uint32_t* rows = task.rows + first_row * task.words;
  const std::uint32_t* w = task.weights;
  __m512i sum[R];
  for (int r = 0; r < R; ++r) sum[r] = _mm512_setzero_si512();
  for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
    const __m512i weight = _mm512_loadu_si512(w);
    for (int r = 0; r < R; ++r) {
      sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(weight, broadcast(rows[r * task.words + k])));
    }
  }
  for (int r = 0; r < R; ++r) _mm512_storeu_si512(task.out + (first_row + r) * task.out_stride, sum[r]);
}

void dot_bits(const DotTask& task) {
  std::size_t r = 0;
  for (; r + 8 <= task.row_count; r += 8) bits_tile<8>(task, r);
  if (r + 4 <= task.row_count) bits_tile<4>(task, r), r += 4;
  if (r + 2 <= task.row_count) bits_tile<2>(task, r), r += 2;
  if (r < task.row_count) bits_tile<1>(task, r);
}

void dot_values(const DotTask& task) {
  std::size_t r = 0;
  for (; r + 8 <= task.row_count; r += 8) values_tile<8>(task, r);
  if (r + 4 <= task.row_count) values_tile<4>(task, r), r += 4;
  if (r + 2 <= task.row_count) values_tile<2>(task, r), r += 2;
  if (r < task.row_count) values_tile<1>(task, r);
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
  static const Kernels table{"avx512", dot_bits, dot_values, count_ones, add_bits, depthwise, dot_features, lif};
  return &table;
}

}  // namespace bitspike

#else

namespace bitspike {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace bitspike

#endif
