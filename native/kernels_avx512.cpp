// AVX-512 with VPOPCNTDQ: one register holds the 16 lanes of a block.
#include "kernels.hpp"

#include "events.hpp"
#include "tables.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

namespace bitspike {
namespace {

struct Vec {
  static constexpr std::size_t kCount = 16;
  __m512i v;

  static Vec load(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static Vec set(std::int32_t value) { return {_mm512_set1_epi32(value)}; }
  void store(std::int32_t* p) const { _mm512_storeu_si512(p, v); }
};

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
inline Vec operator>>(Vec a, Vec b) { return {_mm512_srav_epi32(a.v, b.v)}; }
inline Vec operator<<(Vec a, Vec b) { return {_mm512_sllv_epi32(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_epi32(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline Vec where(__mmask16 mask, Vec a, Vec b) { return {_mm512_mask_blend_epi32(mask, b.v, a.v)}; }
inline __mmask16 at_least(Vec a, Vec b) { return _mm512_cmpge_epi32_mask(a.v, b.v); }
inline std::uint32_t to_bits(__mmask16 mask) { return mask; }

// 32 lanes of int16.
struct NarrowVec {
  static constexpr std::size_t kCount = 32;
  __m512i v;

  static NarrowVec load(const std::int16_t* p) { return {_mm512_loadu_si512(p)}; }
  static NarrowVec load(const std::int32_t* p) {
    const __m256i low = _mm512_cvtepi32_epi16(_mm512_loadu_si512(p));
    return {_mm512_inserti64x4(_mm512_castsi256_si512(low), _mm512_cvtepi32_epi16(_mm512_loadu_si512(p + 16)), 1)};
  }
  static NarrowVec set(std::int32_t value) { return {_mm512_set1_epi16(static_cast<short>(value))}; }
};

inline NarrowVec operator+(NarrowVec a, NarrowVec b) { return {_mm512_add_epi16(a.v, b.v)}; }
inline NarrowVec operator-(NarrowVec a, NarrowVec b) { return {_mm512_sub_epi16(a.v, b.v)}; }
inline NarrowVec operator*(NarrowVec a, NarrowVec b) { return {_mm512_mullo_epi16(a.v, b.v)}; }
inline NarrowVec operator>>(NarrowVec a, NarrowVec b) { return {_mm512_srav_epi16(a.v, b.v)}; }
inline NarrowVec operator<<(NarrowVec a, NarrowVec b) { return {_mm512_sllv_epi16(a.v, b.v)}; }
inline NarrowVec min(NarrowVec a, NarrowVec b) { return {_mm512_min_epi16(a.v, b.v)}; }
inline NarrowVec max(NarrowVec a, NarrowVec b) { return {_mm512_max_epi16(a.v, b.v)}; }
inline NarrowVec where(__mmask32 mask, NarrowVec a, NarrowVec b) { return {_mm512_mask_blend_epi16(mask, b.v, a.v)}; }
inline __mmask32 at_least(NarrowVec a, NarrowVec b) { return _mm512_cmpge_epi16_mask(a.v, b.v); }
inline std::uint32_t to_bits(__mmask32 mask) { return mask; }

constexpr bool kLifCopies = true;

#include "kernels_shared.inl"

inline void store(const DotTask& task, std::size_t row, __m512i sums) {
  if (task.narrow) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(task.narrow_row(row)), _mm512_cvtepi32_epi16(sums));
  } else {
    _mm512_storeu_si512(task.wide_row(row), sums);
  }
}

inline __m512i broadcast(std::uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

// R rows times one block: weights of one plane.
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
  unroll<R>([&](int r) {  // all spikes minus twice those at -1
    if (task.ones) {
      sum[r] = _mm512_sub_epi32(_mm512_set1_epi32(task.ones[first_row + r]), _mm512_slli_epi32(sum[r], 1));
    }
    store(task, first_row + r, sum[r]);
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
  unroll<R>([&](int r) {
    if (task.ones) {
      total[r] = _mm512_add_epi32(_mm512_slli_epi32(total[r], 1), _mm512_set1_epi32(task.ones[first_row + r]));
    }
    store(task, first_row + r, total[r]);
  });
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
  unroll<R>([&](int r) { store(task, first_row + r, sum[r]); });
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
    const std::uint32_t* row = rows + r * words;
    std::int64_t sum = words % 2 ? _mm_popcnt_u32(row[words - 1]) : 0;
    std::uint64_t pair;
    for (std::size_t k = 0; k + 2 <= words; k += 2) {
      std::memcpy(&pair, row + k, sizeof pair);
      sum += static_cast<std::int64_t>(_mm_popcnt_u64(pair));
    }
    ones[r] = static_cast<std::int32_t>(sum);
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
  static const Kernels table{"avx512", dot_bits, dot_values, count_ones, add_bits, depthwise, dot_features, lif, stream, window,
                             avx512_event_kernels(), avx512_tables()};
  return &table;
}

}  // namespace bitspike

#else

namespace bitspike {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace bitspike

#endif
