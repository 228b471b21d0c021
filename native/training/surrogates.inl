// Derivatives of the spike function, at a distance from the threshold. Included by kernels.inl.

// 1.5 * 2^(bits of the mantissa): adding it leaves an integer, rounded, in the low bits.
template <class T>
constexpr T kRound = sizeof(T) == 8 ? T(6755399441055744.0) : T(12582912.0);

// 2^-count for the count in shifted = count + kRound
template <class V>
inline V two_to_minus(V shifted) {
  constexpr bool kWide = sizeof(Number<V>) == 8;
  Integers<V> bits, origin;
  const V zero = spread<V>(kRound<Number<V>>);
  std::memcpy(&bits, &shifted, sizeof bits);
  std::memcpy(&origin, &zero, sizeof origin);
  bits = (origin - bits + (kWide ? 1023 : 127)) << (kWide ? 52 : 23);
  V value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// e^-x for x >= 0, to a few units in the last place; 0 where that would be subnormal.
template <class V>
inline V exp_negative(V x) {
  using T = Number<V>;
  constexpr bool kWide = sizeof(T) == 8;
  constexpr T kHigh = kWide ? T(6.93145751953125e-1) : T(0.693359375);  // ln 2 = high + low; few bits in high
  constexpr T kLow = kWide ? T(1.42860682030941723212e-6) : T(-2.12194440054690583e-4);
  constexpr T kLargest = kWide ? T(708) : T(87);
  const V held = choose(x > kLargest, spread<V>(kLargest), x);
  const V shifted = held * T(1.44269504088896340736) + kRound<T>, count = shifted - kRound<T>;
  const V r = count * kHigh - held + count * kLow;  // e^-held = 2^-count e^r, |r| <= ln 2 / 2
  constexpr int kTerms = kWide ? 13 : 7;            // of the power series; the next is below half a unit
  V sum = spread<V>(1);
  for (int i = kTerms; i > 0; --i) sum = 1 + sum * r * (1 / T(i));
  return choose(x > kLargest, V{}, sum * two_to_minus(shifted));
}

// Each holds what depends on the shape alone; the shape is a width or a slope.
template <class V>
struct Triangle {
  Number<V> width, square;
  explicit Triangle(double shape) : width(static_cast<Number<V>>(shape)), square(static_cast<Number<V>>(shape * shape)) {}
  V operator()(V v) const {
    const V height = width - magnitude(v);
    return choose(height < 0, V{}, height) / square;
  }
};

template <class V>
struct Sigmoid {
  Number<V> slope;
  explicit Sigmoid(double shape) : slope(static_cast<Number<V>>(shape)) {}
  V operator()(V v) const {
    const V e = exp_negative<V>(magnitude<V>(slope * v)), below = 1 + e;
    return slope * e / (below * below);
  }
};

template <class V>
struct ATan {
  Number<V> half, inner;
  explicit ATan(double shape)
      : half(static_cast<Number<V>>(shape / 2)), inner(static_cast<Number<V>>(3.14159265358979323846 / 2 * shape)) {}
  V operator()(V v) const {
    const V scaled = inner * v;
    return half / (1 + scaled * scaled);
  }
};

template <class V>
struct Rectangle {
  Number<V> half, height;
  explicit Rectangle(double shape)
      : half(static_cast<Number<V>>(shape / 2)), height(1 / static_cast<Number<V>>(shape)) {}
  V operator()(V v) const { return choose(magnitude(v) < half, spread<V>(height), V{}); }
};

// In forward.
template <class V>
struct NoSurrogate {
  explicit NoSurrogate(double) {}
};
