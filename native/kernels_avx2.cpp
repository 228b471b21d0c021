// AVX2: 16 lanes are two 256-bit halves; bits are counted with a 16-entry table per nibble.
#include "kernels.hpp"

#include "events.hpp"
#include "tables.hpp"

#if defined(__AVX2__) && defined(__POPCNT__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

namespace bitspike {
namespace {

constexpr std::size_t kHalf = 8;

struct Vec {
  static constexpr std::size_t kCount = 16;
  __m256i low, high;

  static Vec load(const std::int16_t* p) {
    const auto* q = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtepi16_epi32(_mm_loadu_si128(q)), _mm256_cvtepi16_epi32(_mm_loadu_si128(q + 1))};
  }
  static Vec load(const std::int32_t* p) {
    const auto* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
  }
  static Vec set(std::int32_t value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }
  void store(std::int32_t* p) const {
    auto* q = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(q, low);
    _mm256_storeu_si256(q + 1, high);
  }
};

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high)}; }
inline Vec operator>>(Vec a, Vec b) { return {_mm256_srav_epi32(a.low, b.low), _mm256_srav_epi32(a.high, b.high)}; }
inline Vec operator<<(Vec a, Vec b) { return {_mm256_sllv_epi32(a.low, b.low), _mm256_sllv_epi32(a.high, b.high)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_epi32(a.low, b.low), _mm256_min_epi32(a.high, b.high)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)}; }
inline Vec where(Vec mask, Vec a, Vec b) {
  return {_mm256_blendv_epi8(b.low, a.low, mask.low), _mm256_blendv_epi8(b.high, a.high, mask.high)};
}
// a >= b is "not b > a": there is no other signed comparison.
inline Vec at_least(Vec a, Vec b) {
  const __m256i all = _mm256_set1_epi32(-1);
  return {_mm256_xor_si256(_mm256_cmpgt_epi32(b.low, a.low), all),
          _mm256_xor_si256(_mm256_cmpgt_epi32(b.high, a.high), all)};
}
inline std::uint32_t to_bits(Vec mask) {
  const int low = _mm256_movemask_ps(_mm256_castsi256_ps(mask.low));
  const int high = _mm256_movemask_ps(_mm256_castsi256_ps(mask.high));
  return static_cast<std::uint32_t>(low | high << 8);
}

using NarrowVec = Vec;  // no 16-bit lane can be shifted by its own amount
constexpr bool kLifCopies = true;

#include "kernels_shared.inl"

inline __m256i load(const std::uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store(const DotTask& task, std::size_t row, std::size_t half, __m256i sums) {
  if (task.narrow) {  // they fit: nothing is saturated
    const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(task.narrow_row(row) + half * kHalf), packed);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(task.wide_row(row) + half * kHalf), sums);
  }
}
inline __m256i broadcast(std::uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }

// Set bits per byte.
inline __m256i count_bytes(__m256i x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i low = _mm256_and_si256(x, nibble), high = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
}

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

// Set bits that R rows share with one plane of half a block, as eight 32-bit sums per row.
template <int R>
[[gnu::always_inline]] inline void count_plane(const DotTask& task, std::size_t first_row, const std::uint32_t* w,
                                               __m256i (&sum)[R]) {
  constexpr std::size_t kChunk = 31;  // words whose byte counts (at most 8 each) still fit in a byte
  const std::uint32_t* rows = task.rows + first_row * task.words;
  unroll<R>([&](int r) { sum[r] = _mm256_setzero_si256(); });
  for (std::size_t begin = 0; begin < task.words; begin += kChunk) {
    const std::size_t end = begin + kChunk < task.words ? begin + kChunk : task.words;
    __m256i bytes[R];
    unroll<R>([&](int r) { bytes[r] = _mm256_setzero_si256(); });
    for (std::size_t k = begin; k < end; ++k, w += kLanes) {
      const __m256i weight = load(w);
      unroll<R>([&](int r) {
        const __m256i spikes = broadcast(rows[r * task.words + k]);
        bytes[r] = _mm256_add_epi8(bytes[r], count_bytes(_mm256_and_si256(weight, spikes)));
      });
    }
    unroll<R>([&](int r) {
      const __m256i pairs = _mm256_maddubs_epi16(bytes[r], _mm256_set1_epi8(1));
      sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    });
  }
}

// R rows times half a block: weights of one plane.
template <int R>
void signs_tile(const DotTask& task, std::size_t first_row, std::size_t half) {
  __m256i sum[R];
  count_plane<R>(task, first_row, task.weights + half * kHalf, sum);
  unroll<R>([&](int r) {  // all spikes minus twice those at -1
    if (task.ones) {
      sum[r] = _mm256_sub_epi32(_mm256_set1_epi32(task.ones[first_row + r]), _mm256_slli_epi32(sum[r], 1));
    }
    store(task, first_row + r, half, sum[r]);
  });
}

// R rows times half a block: two's complement planes, the last of which counts negatively.
template <int R>
void planes_tile(const DotTask& task, std::size_t first_row, std::size_t half) {
  __m256i total[R];
  unroll<R>([&](int r) { total[r] = _mm256_setzero_si256(); });
  for (std::size_t plane = 0; plane < task.planes; ++plane) {
    __m256i sum[R];
    count_plane<R>(task, first_row, task.weights + half * kHalf + plane * task.words * kLanes, sum);
    const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(plane));
    const bool sign = plane + 1 == task.planes;
    unroll<R>([&](int r) {
      const __m256i scaled = _mm256_sll_epi32(sum[r], shift);
      total[r] = sign ? _mm256_sub_epi32(total[r], scaled) : _mm256_add_epi32(total[r], scaled);
    });
  }
  unroll<R>([&](int r) {
    if (task.ones) {
      total[r] = _mm256_add_epi32(_mm256_slli_epi32(total[r], 1), _mm256_set1_epi32(task.ones[first_row + r]));
    }
    store(task, first_row + r, half, total[r]);
  });
}

template <int R>
void values_tile(const DotTask& task, std::size_t first_row, std::size_t half) {
  const std::uint32_t* rows = task.rows + first_row * task.words;
  const std::uint32_t* w = task.weights + half * kHalf;
  __m256i sum[R];
  unroll<R>([&](int r) { sum[r] = _mm256_setzero_si256(); });
  for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
    const __m256i weight = load(w);
    unroll<R>([&](int r) {
      sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(weight, broadcast(rows[r * task.words + k])));
    });
  }
  unroll<R>([&](int r) { store(task, first_row + r, half, sum[r]); });
}

void dot_bits(const DotTask& task) {
  for (std::size_t half = 0; half < 2; ++half) {
    std::size_t r = 0;
    if (task.planes == 1) {
      for (; r + 4 <= task.row_count; r += 4) signs_tile<4>(task, r, half);
      for (; r < task.row_count; ++r) signs_tile<1>(task, r, half);
    } else {  // two rows: more sums than registers otherwise
      for (; r + 2 <= task.row_count; r += 2) planes_tile<2>(task, r, half);
      if (r < task.row_count) planes_tile<1>(task, r, half);
    }
  }
}

void dot_values(const DotTask& task) {
  for (std::size_t half = 0; half < 2; ++half) {
    std::size_t r = 0;
    for (; r + 8 <= task.row_count; r += 8) values_tile<8>(task, r, half);
    for (; r + 2 <= task.row_count; r += 2) values_tile<2>(task, r, half);
    if (r < task.row_count) values_tile<1>(task, r, half);
  }
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
  const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (std::size_t i = 0; i < bytes; ++i) {
    auto* sum = reinterpret_cast<__m256i*>(sums + 8 * i);
    const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(broadcast(bits[i]), select), select);
    _mm256_storeu_si256(sum, _mm256_sub_epi32(_mm256_loadu_si256(sum), set));  // minus -1
  }
}

}  // namespace

const Kernels* avx2_kernels() {
  static const Kernels table{"avx2", dot_bits, dot_values, count_ones, add_bits, depthwise, dot_features, lif, stream, window,
                             avx2_event_kernels(), avx2_tables()};
  return &table;
}

}  // namespace bitspike

#else

namespace bitspike {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace bitspike

#endif
