// Plain C++ for any machine; also the readable version of the two vector levels.
#include "kernels.hpp"

#include <cstring>
#include <type_traits>

#include "events.hpp"

namespace bitspike {
namespace {

struct Vec {
  static constexpr std::size_t kCount = kLanes;
  std::int32_t lane[kLanes];

  template <class Value>
  static Vec load(const Value* p) {
    Vec v;
    for (std::size_t i = 0; i < kLanes; ++i) v.lane[i] = p[i];
    return v;
  }
  static Vec set(std::int32_t value) {
    Vec v;
    for (std::int32_t& x : v.lane) x = value;
    return v;
  }
  void store(std::int32_t* p) const { std::memcpy(p, lane, sizeof lane); }
};

template <class F>
inline Vec each(const Vec& a, const Vec& b, F f) {
  Vec v;
  for (std::size_t i = 0; i < kLanes; ++i) v.lane[i] = f(a.lane[i], b.lane[i]);
  return v;
}

inline std::uint32_t wrap(std::int32_t x) { return static_cast<std::uint32_t>(x); }
inline std::int32_t unwrap(std::uint32_t x) { return static_cast<std::int32_t>(x); }

inline Vec operator+(const Vec& a, const Vec& b) {
  return each(a, b, [](auto x, auto y) { return unwrap(wrap(x) + wrap(y)); });
}
inline Vec operator-(const Vec& a, const Vec& b) {
  return each(a, b, [](auto x, auto y) { return unwrap(wrap(x) - wrap(y)); });
}
inline Vec operator*(const Vec& a, const Vec& b) {
  return each(a, b, [](auto x, auto y) { return unwrap(wrap(x) * wrap(y)); });
}
inline Vec operator>>(const Vec& a, const Vec& b) { return each(a, b, [](auto x, auto y) { return x >> y; }); }
inline Vec operator<<(const Vec& a, const Vec& b) {
  return each(a, b, [](auto x, auto y) { return unwrap(wrap(x) << y); });
}
inline Vec min(const Vec& a, const Vec& b) { return each(a, b, [](auto x, auto y) { return x < y ? x : y; }); }
inline Vec max(const Vec& a, const Vec& b) { return each(a, b, [](auto x, auto y) { return x > y ? x : y; }); }
inline Vec at_least(const Vec& a, const Vec& b) { return each(a, b, [](auto x, auto y) { return x >= y ? -1 : 0; }); }
inline Vec where(const Vec& mask, const Vec& a, const Vec& b) {
  Vec v;
  for (std::size_t i = 0; i < kLanes; ++i) v.lane[i] = (mask.lane[i] & a.lane[i]) | (~mask.lane[i] & b.lane[i]);
  return v;
}
inline std::uint32_t to_bits(const Vec& mask) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kLanes; ++i) bits |= (wrap(mask.lane[i]) & 1u) << i;
  return bits;
}

using NarrowVec = Vec;
constexpr bool kLifCopies = false;

#include "kernels_shared.inl"

inline std::uint32_t popcount(std::uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0F0F0F0Fu;
  return (x * 0x01010101u) >> 24;
}

void dot_bits(const DotTask& task) {
  for (std::size_t r = 0; r < task.row_count; ++r) {
    const std::uint32_t* row = task.rows + r * task.words;
    const std::uint32_t* w = task.weights;
    std::uint32_t total[kLanes] = {};
    for (std::size_t plane = 0; plane < task.planes; ++plane) {
      std::uint32_t sum[kLanes] = {};
      for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
        for (std::size_t i = 0; i < kLanes; ++i) sum[i] += popcount(w[i] & row[k]);
      }
      const bool sign = plane + 1 == task.planes && (task.planes > 1 || task.ones);
      for (std::size_t i = 0; i < kLanes; ++i) total[i] += sign ? 0u - (sum[i] << plane) : sum[i] << plane;
    }
    for (std::size_t i = 0; i < kLanes; ++i) {
      const std::uint32_t value = task.ones ? 2 * total[i] + wrap(task.ones[r]) : total[i];
      if (task.narrow) {
        task.narrow_row(r)[i] = static_cast<std::int16_t>(unwrap(value));
      } else {
        task.wide_row(r)[i] = unwrap(value);
      }
    }
  }
}

void dot_values(const DotTask& task) {
  for (std::size_t r = 0; r < task.row_count; ++r) {
    const std::uint32_t* row = task.rows + r * task.words;
    const std::uint32_t* w = task.weights;
    std::uint32_t sum[kLanes] = {};
    for (std::size_t k = 0; k < task.words; ++k, w += kLanes) {
      const std::int32_t low = static_cast<std::int16_t>(row[k]), high = static_cast<std::int16_t>(row[k] >> 16);
      for (std::size_t i = 0; i < kLanes; ++i) {
        sum[i] += wrap(low * static_cast<std::int16_t>(w[i]) + high * static_cast<std::int16_t>(w[i] >> 16));
      }
    }
    for (std::size_t i = 0; i < kLanes; ++i) task.wide_row(r)[i] = unwrap(sum[i]);
  }
}

void count_ones(const std::uint32_t* rows, std::size_t row_count, std::size_t words, std::int32_t* ones) {
  for (std::size_t r = 0; r < row_count; ++r) {
    std::uint32_t sum = 0;
    for (std::size_t k = 0; k < words; ++k) sum += popcount(rows[r * words + k]);
    ones[r] = unwrap(sum);
  }
}

void add_bits(const std::uint8_t* bits, std::size_t bytes, std::int32_t* sums) {
  for (std::size_t i = 0; i < bytes; ++i) {
    for (std::size_t j = 0; j < 8; ++j) sums[8 * i + j] = unwrap(wrap(sums[8 * i + j]) + ((bits[i] >> j) & 1u));
  }
}

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels table{"portable", dot_bits, dot_values, count_ones, add_bits, depthwise, dot_features, lif, stream, window,
                             &portable_event_kernels(), nullptr};
  return table;
}

}  // namespace bitspike
