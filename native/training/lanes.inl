// Numbers side by side: `Lanes<T>` is a vector register of the level, or T alone where the compiler has no vector
// types. What follows is written once for both. Included by kernels.inl.

#if defined(__GNUC__)
template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(BITSPIKE_TRAINING_BYTES)));
};
template <class T>
using Lanes = typename VectorOf<T>::type;
#else
template <class T>
using Lanes = T;
#endif

// The number in V, and integers as wide as V's numbers, as many.
template <class V>
struct Parts {
  using Number = std::remove_reference_t<decltype(std::declval<V&>()[0])>;
  using Integers = decltype(V{} < V{});
};
template <>
struct Parts<float> {
  using Number = float;
  using Integers = std::int32_t;
};
template <>
struct Parts<double> {
  using Number = double;
  using Integers = std::int64_t;
};
template <class V>
using Number = typename Parts<V>::Number;
template <class V>
using Integers = typename Parts<V>::Integers;

template <class V>
constexpr std::size_t kLanes = sizeof(V) / sizeof(Number<V>);

template <class V>
inline V spread(Number<V> value) {
  return V{} + value;
}

// The same without a sum: also where a compiler must mind the sign of zeros.
template <class V>
inline V everywhere(Number<V> value) {
  return value - V{};
}

template <class V>
inline V load(const Number<V>* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class V>
inline void store(Number<V>* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

// a * b + c, rounded once where the level can: not for what is compared with a reference bit for bit.
template <class V>
inline V multiply_add(V a, V b, V c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64 && sizeof(Number<V>) == 4) return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  if constexpr (sizeof(V) == 64 && sizeof(Number<V>) == 8) return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
  if constexpr (sizeof(V) == 32 && sizeof(Number<V>) == 4) return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  if constexpr (sizeof(V) == 32 && sizeof(Number<V>) == 8) return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#endif
  return a * b + c;
}

// A store past the caches where the level has one; `to` is aligned to V. Followed by end_streams().
template <class V>
inline void stream(Number<V>* to, V value) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return _mm512_stream_ps(reinterpret_cast<float*>(to), reinterpret_cast<__m512&>(value));
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) return _mm256_stream_ps(reinterpret_cast<float*>(to), reinterpret_cast<__m256&>(value));
#endif
  store<V>(to, value);
}

inline void end_streams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// Asks for what stands there, into the second cache; past the end of a sequence it does nothing.
inline void fetch([[maybe_unused]] const void* from) {
#if defined(__GNUC__)
  __builtin_prefetch(from, 0, 2);
#endif
}

template <class V, class Mask>
inline V choose(Mask mask, V yes, V no) {
  return mask ? yes : no;
}

template <class V>
inline V magnitude(V v) {
  return choose(v < 0, -v, v);
}

// 1 where v > 0, else 0
template <class V>
inline V above_zero(V v) {
  return choose(v > 0, spread<V>(1), V{});
}

template <class V>
inline double total(V v) {
  Number<V> numbers[kLanes<V>];
  std::memcpy(numbers, &v, sizeof v);
  double sum = 0;
  for (const Number<V> number : numbers) sum += number;
  return sum;
}
