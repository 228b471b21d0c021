// AVX-512 with VPOPCNTDQ and VBMI2.
#include "events.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VPOPCNTDQ__) && \
    defined(__AVX512VBMI2__)
#include <immintrin.h>

#include <cstring>

namespace bitspike {
namespace {

inline std::int32_t count_bits(std::uint64_t x) { return static_cast<std::int32_t>(_mm_popcnt_u64(x)); }
inline std::size_t lowest_bit(std::uint64_t x) { return static_cast<std::size_t>(__builtin_ctzll(x)); }

// f(0) .. f(N - 1) written out, so that arrays indexed by the argument become registers.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (N > 1) unroll<N - 1>(f);
  f(N - 1);
}

// The first `count` of 16 lanes. Stores under a mask are slow, so only where lanes are left over.
inline void store_first(std::int32_t* out, __m512i v, std::size_t count) {
  if (count >= 16) {
    _mm512_storeu_si512(out, v);
  } else {
    _mm512_mask_storeu_epi32(out, static_cast<__mmask16>((1u << count) - 1), v);
  }
}

constexpr int kCountedRows = 4;

struct Ints {
  __m512i v;

  static Ints zero() { return {_mm512_setzero_si512()}; }
  void add(const std::int32_t* row) { v = _mm512_add_epi32(v, _mm512_loadu_si512(row)); }
  void add_hits(const std::uint32_t* words, std::uint32_t word) {
    const __m512i hits = _mm512_and_si512(_mm512_loadu_si512(words), _mm512_set1_epi32(static_cast<int>(word)));
    v = _mm512_add_epi32(v, _mm512_popcnt_epi32(hits));
  }
  void add_where(std::uint32_t mask, std::int32_t value) {
    v = _mm512_mask_add_epi32(v, static_cast<__mmask16>(mask), v, _mm512_set1_epi32(value));
  }
  void store(std::int32_t* out) const { _mm512_storeu_si512(out, v); }
  void store(std::int32_t* out, std::size_t count) const { store_first(out, v, count); }
  void store(std::uint16_t* out) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(v));
  }
};

template <int V>
struct Shorts {
  static constexpr std::size_t kCount = 32 * V;
  __m512i v[V];

  static Shorts zero() {
    Shorts s;
    for (int i = 0; i < V; ++i) s.v[i] = _mm512_setzero_si512();
    return s;
  }
  void add(const std::uint16_t* row) {
    for (int i = 0; i < V; ++i) v[i] = _mm512_add_epi16(v[i], _mm512_loadu_si512(row + 32 * i));
  }
  void store(std::int32_t* out, std::size_t count) const {
    for (int i = 0; i < V; ++i) {
      const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(v[i]));
      const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(v[i], 1));
      const std::size_t first = 32 * static_cast<std::size_t>(i);
      if (count >= first + 32) {
        _mm512_storeu_si512(out + first, low);
        _mm512_storeu_si512(out + first + 16, high);
      } else if (count > first) {
        store_first(out + first, low, count - first);
        if (count > first + 16) store_first(out + first + 16, high, count - first - 16);
      }
    }
  }
};

inline std::uint16_t* append_spikes(std::uint32_t bits, std::uint16_t first, std::uint16_t* end) {
  alignas(64) static constexpr std::uint16_t kCounting[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                              11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                                              22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
  const __m512i all = _mm512_add_epi16(_mm512_load_si512(kCounting), _mm512_set1_epi16(static_cast<short>(first)));
  // Compressed in a register: compressing stores are slow.
  _mm512_storeu_si512(end, _mm512_maskz_compress_epi16(bits, all));
  return end + _mm_popcnt_u32(bits);
}

inline std::uint32_t* append_offsets(const std::uint16_t* positions, std::size_t count, std::uint32_t shift,
                                     std::uint32_t* next) {
  const __m512i base = _mm512_set1_epi32(static_cast<int>(shift));
  for (std::size_t i = 0; i < count; i += 16) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(positions + i));
    const __m512i offsets = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtepu16_epi32(some), base), 6);
    _mm512_storeu_si512(next + i, offsets);
  }
  return next + count;
}

template <int V>
struct Sum {
  __m512i bytes[V], shorts[2 * V];

  static Sum zero() {
    Sum sum;
    sum.begin();
    unroll<2 * V>([&](int i) { sum.shorts[i] = _mm512_setzero_si512(); });
    return sum;
  }
  void begin() {
    unroll<V>([&](int i) { bytes[i] = _mm512_setzero_si512(); });
  }
  void add(const std::int8_t* row) {
    unroll<V>([&](int i) { bytes[i] = _mm512_add_epi8(bytes[i], _mm512_load_si512(row + 64 * i)); });
  }
  void add_wide(const std::int8_t* row) {
    unroll<2 * V>([&](int i) {
      const __m256i half = _mm256_load_si256(reinterpret_cast<const __m256i*>(row + 32 * i));
      shorts[i] = _mm512_add_epi16(shorts[i], _mm512_cvtepi8_epi16(half));
    });
  }
  void widen() {
    unroll<V>([&](int i) {
      const __m512i low = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(bytes[i]));
      const __m512i high = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(bytes[i], 1));
      shorts[2 * i] = _mm512_add_epi16(shorts[2 * i], low);
      shorts[2 * i + 1] = _mm512_add_epi16(shorts[2 * i + 1], high);
    });
  }
  void store(std::int16_t* out, std::size_t count) const {  // count is a multiple of 16
    unroll<2 * V>([&](int i) {
      const std::size_t first = 32 * static_cast<std::size_t>(i);
      if (count >= first + 32) {
        _mm512_storeu_si512(out + first, shorts[i]);
      } else if (count > first) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + first), _mm512_castsi512_si256(shorts[i]));
      }
    });
  }
  // out += sums; out = sums where nothing is stored yet.
  void add_to(std::int32_t* out, std::size_t count, bool stored) const {
    const auto mask = static_cast<__mmask16>(stored ? 0xFFFF : 0);
    unroll<4 * V>([&](int i) {
      if (count <= 16 * static_cast<std::size_t>(i)) return;
      const __m512i both = shorts[i / 2];
      const __m256i half = i % 2 == 0 ? _mm512_castsi512_si256(both) : _mm512_extracti64x4_epi64(both, 1);
      std::int32_t* to = out + 16 * i;
      _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_cvtepi16_epi32(half), _mm512_maskz_loadu_epi32(mask, to)));
    });
  }
};

#include "attention.inl"
#include "events.inl"

}  // namespace

const EventKernels* avx512_event_kernels() {
  static const EventKernels table{{pack_tokens, attention_prepare, attention_currents}, list_spikes, event_rows};
  return &table;
}

}  // namespace bitspike

#else

namespace bitspike {
const EventKernels* avx512_event_kernels() { return nullptr; }
}  // namespace bitspike

#endif
