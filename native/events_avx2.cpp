// AVX2: 16 lanes of int32 are two registers; bits are counted with a 16-entry table per nibble.
#include "events.hpp"

#if defined(__AVX2__) && defined(__POPCNT__)
#include <immintrin.h>

#include <cstring>

namespace bitspike {
namespace {

inline std::int32_t count_bits(std::uint64_t x) { return static_cast<std::int32_t>(_mm_popcnt_u64(x)); }
inline std::size_t lowest_bit(std::uint64_t x) { return static_cast<std::size_t>(__builtin_ctzll(x)); }

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

// The first `count` of 8 lanes of int32. Stores under a mask are slow, so only where lanes are left over.
inline void store_first(std::int32_t* out, __m256i v, std::size_t count) {
  if (count >= 8) {
    store(out, v);
    return;
  }
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_epi32(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index), v);
}

// Set bits per 32-bit lane.
inline __m256i count_lanes(__m256i x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i low = _mm256_and_si256(x, nibble), high = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
  const __m256i bytes = _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
  return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

constexpr int kCountedRows = 2;

struct Ints {
  __m256i low, high;

  static Ints zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  void add(const std::int32_t* row) {
    low = _mm256_add_epi32(low, bitspike::load(row));
    high = _mm256_add_epi32(high, bitspike::load(row + 8));
  }
  void add_hits(const std::uint32_t* words, std::uint32_t word) {
    const __m256i all = _mm256_set1_epi32(static_cast<int>(word));
    low = _mm256_add_epi32(low, count_lanes(_mm256_and_si256(bitspike::load(words), all)));
    high = _mm256_add_epi32(high, count_lanes(_mm256_and_si256(bitspike::load(words + 8), all)));
  }
  void add_where(std::uint32_t mask, std::int32_t value) {
    const __m256i all = _mm256_set1_epi32(static_cast<int>(mask)), number = _mm256_set1_epi32(value);
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), bit_high = _mm256_slli_epi32(bit, 8);
    const __m256i is_low = _mm256_cmpeq_epi32(_mm256_and_si256(all, bit), bit);
    const __m256i is_high = _mm256_cmpeq_epi32(_mm256_and_si256(all, bit_high), bit_high);
    low = _mm256_add_epi32(low, _mm256_and_si256(is_low, number));
    high = _mm256_add_epi32(high, _mm256_and_si256(is_high, number));
  }
  void store(std::int32_t* out) const {
    bitspike::store(out, low);
    bitspike::store(out + 8, high);
  }
  void store(std::int32_t* out, std::size_t count) const {
    store_first(out, low, count);
    if (count > 8) store_first(out + 8, high, count - 8);
  }
  void store(std::uint16_t* out) const {
    const __m256i packed = _mm256_packus_epi32(low, high);  // values stay below 2^16
    bitspike::store(out, _mm256_permute4x64_epi64(packed, 0xD8));
  }
};

template <int V>
struct Shorts {
  static constexpr std::size_t kCount = 32 * V;
  __m256i v[2 * V];

  static Shorts zero() {
    Shorts s;
    unroll<2 * V>([&](int i) { s.v[i] = _mm256_setzero_si256(); });
    return s;
  }
  void add(const std::uint16_t* row) {
    unroll<2 * V>([&](int i) { v[i] = _mm256_add_epi16(v[i], load(row + 16 * i)); });
  }
  void store(std::int32_t* out, std::size_t count) const {
    unroll<2 * V>([&](int i) {
      store_half(out + 16 * i, _mm256_castsi256_si128(v[i]), count, 16 * i);
      store_half(out + 16 * i + 8, _mm256_extracti128_si256(v[i], 1), count, 16 * i + 8);
    });
  }

 private:
  static void store_half(std::int32_t* out, __m128i half, std::size_t count, std::size_t first) {
    if (first < count) store_first(out, _mm256_cvtepu16_epi32(half), count - first);
  }
};

inline std::uint16_t* append_spikes(std::uint32_t bits, std::uint16_t first, std::uint16_t* end) {
  for (int i = 0; i < 4; ++i, bits >>= 8) {
    const auto* positions = reinterpret_cast<const __m128i*>(kBitTable.position[bits & 255]);
    const __m128i base = _mm_set1_epi16(static_cast<short>(first + 8 * i));
    const __m128i eight = _mm_cvtepu8_epi16(_mm_loadl_epi64(positions));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(end), _mm_add_epi16(eight, base));
    end += kBitTable.count[bits & 255];
  }
  return end;
}

inline std::uint32_t* append_offsets(const std::uint16_t* positions, std::size_t count, std::uint32_t shift,
                                     std::uint32_t* next) {
  const __m256i base = _mm256_set1_epi32(static_cast<int>(shift));
  for (std::size_t i = 0; i < count; i += 8) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(positions + i));
    store(next + i, _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtepu16_epi32(some), base), 6));
  }
  return next + count;
}

template <int V>
struct Sum {
  static constexpr int kBytes = 2 * V, kShorts = 4 * V;  // registers
  __m256i bytes[kBytes], shorts[kShorts];

  static Sum zero() {
    Sum sum;
    sum.begin();
    unroll<kShorts>([&](int i) { sum.shorts[i] = _mm256_setzero_si256(); });
    return sum;
  }
  void begin() {
    unroll<kBytes>([&](int i) { bytes[i] = _mm256_setzero_si256(); });
  }
  void add(const std::int8_t* row) {
    unroll<kBytes>([&](int i) { bytes[i] = _mm256_add_epi8(bytes[i], load(row + 32 * i)); });
  }
  void add_wide(const std::int8_t* row) {
    unroll<kShorts>([&](int i) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 16 * i));
      shorts[i] = _mm256_add_epi16(shorts[i], _mm256_cvtepi8_epi16(half));
    });
  }
  void widen() {
    unroll<kBytes>([&](int i) {
      const __m256i low = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes[i]));
      const __m256i high = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes[i], 1));
      shorts[2 * i] = _mm256_add_epi16(shorts[2 * i], low);
      shorts[2 * i + 1] = _mm256_add_epi16(shorts[2 * i + 1], high);
    });
  }
  void store(std::int16_t* out, std::size_t count) const {  // count is a multiple of 16
    unroll<kShorts>([&](int i) {
      if (count > 16 * static_cast<std::size_t>(i)) bitspike::store(out + 16 * i, shorts[i]);
    });
  }
  // out += sums; out = sums where nothing is stored yet.
  void add_to(std::int32_t* out, std::size_t count, bool stored) const {
    const __m256i mask = _mm256_set1_epi32(stored ? -1 : 0);
    unroll<kShorts>([&](int i) {
      if (count <= 16 * static_cast<std::size_t>(i)) return;
      const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(shorts[i]));
      const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(shorts[i], 1));
      std::int32_t* to = out + 16 * i;
      bitspike::store(to, _mm256_add_epi32(low, _mm256_and_si256(load(to), mask)));
      bitspike::store(to + 8, _mm256_add_epi32(high, _mm256_and_si256(load(to + 8), mask)));
    });
  }
};

#include "attention.inl"
#include "events.inl"

}  // namespace

const EventKernels* avx2_event_kernels() {
  static const EventKernels table{{pack_tokens, attention_prepare, attention_currents}, list_spikes, event_rows};
  return &table;
}

}  // namespace bitspike

#else

namespace bitspike {
const EventKernels* avx2_event_kernels() { return nullptr; }
}  // namespace bitspike

#endif
