// The neurons with a leak: what they fire and keep, and blocks of them over all steps. Included by kernels.inl.

// Spikes 0 and 1, fired above the threshold or (kReach) from it on. Hard: the membrane is 0 after a spike; soft: less
// by the threshold. The comparison chooses what the reference multiplies by the spike: the same numbers, and the next
// step waits less for them. u - u is 0 and, as 0 * u is, undefined where u is infinite.
template <class V, template <class> class S, bool kHard, bool kReach>
struct BinaryOf {
  Number<V> threshold;
  S<V> surrogate;
  auto fires(V u) const {
    if constexpr (kReach) {
      return u >= threshold;
    } else {
      return u > threshold;
    }
  }
  V fire(V u) const { return choose(fires(u), spread<V>(1), V{}); }
  V rest(V u) const { return choose(fires(u), kHard ? u - u : u - threshold, u); }
  // d loss / d u for the gradients of output and rest
  V back(V u, V by_output, V by_rest, bool attached) const {
    const V through = kHard ? by_rest * u : by_rest * threshold;
    const V by_spike = attached ? by_output - through : by_output;
    const V passes = kHard ? choose(fires(u), by_rest - by_rest, by_rest) : by_rest;
    return by_spike * surrogate(u - threshold) + passes;
  }
};
template <class V, template <class> class S, bool kHard>
using Binary = BinaryOf<V, S, kHard, false>;
template <class V, template <class> class S, bool kHard>
using Reaching = BinaryOf<V, S, kHard, true>;

// Spikes -1, 0 and 1: one step at each of the two thresholds.
template <class V, template <class> class S, bool kHard>
struct Ternary {
  Number<V> threshold;
  S<V> surrogate;
  V up(V u) const { return above_zero<V>(u - threshold); }
  V down(V u) const { return above_zero<V>(-u - threshold); }
  V fire(V u) const { return up(u) - down(u); }
  V rest(V u) const { return kHard ? (1 - up(u) - down(u)) * u : u - threshold * fire(u); }
  V back(V u, V by_output, V by_rest, bool attached) const {
    const V through = kHard ? by_rest * u : by_rest * threshold;
    const V by_up = attached ? by_output - through : by_output;
    const V by_down = attached ? (kHard ? by_output + through : by_output - through) : by_output;
    const V passes = kHard ? by_rest * (1 - up(u) - down(u)) : by_rest;
    return by_up * surrogate(u - threshold) + by_down * surrogate(-u - threshold) + passes;
  }
};

// Integers 0 to `threshold`, the nearest to the membrane, ties to even; what was fired is taken off.
template <class V, template <class> class S, bool>
struct Integer {
  Number<V> threshold;
  S<V> unused;
  V fire(V u) const {
    const V least = choose(u < 0, V{}, u), held = choose(least > threshold, spread<V>(threshold), least);
    return held + kRound<Number<V>> - kRound<Number<V>>;
  }
  V rest(V u) const { return u - fire(u); }
  V back(V u, V by_output, V by_rest, bool attached) const {
    const V by_fired = attached ? by_output - by_rest : by_output;
    return choose(u < 0, V{}, choose(u > threshold, V{}, by_fired)) + by_rest;
  }
};

template <class V>
inline void put(bool streamed, Number<V>* to, V value) {
  if (sizeof(V) > sizeof(Number<V>) && streamed) {
    stream<V>(to, value);
  } else {
    store<V>(to, value);
  }
}

// kUnits registers of neurons side by side, starting at `first`, through all steps. Rows lie too far apart for the
// processor to foresee the next ones, and where they lie a power of two apart, all of them share a few places of the
// first cache: what the neurons after the next ones need is asked for early, and into the second cache.
template <std::size_t kUnits, class V, class N>
void forward_columns(const ScanTask& task, const N neuron, std::size_t first) {
  using T = Number<V>;
  constexpr std::size_t kNumbers = kUnits * kLanes<V>;
  const T leak = static_cast<T>(task.leak), gain = static_cast<T>(task.gain);
  const bool streamed = task.streamed;
  const T* x = static_cast<const T*>(task.current) + first;
  T* out = static_cast<T*>(task.out) + first;
  V carry[kUnits] = {};
  for (std::size_t t = 0; t < task.steps; ++t, x += task.current_stride, out += task.features) {
    for (std::size_t k = 0; k < kUnits; ++k) {
      if (streamed) fetch(x + 2 * kNumbers + k * kLanes<V>);
      const V u = leak * carry[k] + gain * load<V>(x + k * kLanes<V>);
      carry[k] = neuron.rest(u);
      put<V>(streamed, out + k * kLanes<V>, neuron.fire(u));
    }
  }
}

template <std::size_t kUnits, class V>
void add_learned(const ScanTask& task, const V* by_leak, const V* by_gain, double* sums) {
  for (std::size_t k = 0; task.learned && k < kUnits; ++k) {
    sums[0] += total(by_leak[k]);
    sums[1] += total(by_gain[k]);
  }
}

// `scratch`: [2 + steps][kUnits], two sums for the learned numbers and the membranes of all steps.
template <std::size_t kUnits, class V, class N>
void backward_columns(const ScanTask& task, const N neuron, std::size_t first, void* scratch, double* sums) {
  using T = Number<V>;
  constexpr std::size_t kNumbers = kUnits * kLanes<V>;
  const T leak = static_cast<T>(task.leak), gain = static_cast<T>(task.gain);
  const bool attached = !task.detach_reset, full = !task.spatial, learned = task.learned, streamed = task.streamed;
  const T* x = static_cast<const T*>(task.current) + first;
  T* out = static_cast<T*>(task.out) + first;
  V *by_leak = static_cast<V*>(scratch), *by_gain = by_leak + kUnits, *u = by_gain + kUnits;
  if (learned) std::fill_n(by_leak, 2 * kUnits, V{});
  V carry[kUnits] = {};
  for (std::size_t t = 0; t < task.steps; ++t, x += task.current_stride, out += task.features, u += kUnits) {
    for (std::size_t k = 0; k < kUnits; ++k) {
      fetch(x + 2 * kNumbers + k * kLanes<V>);
      if (!streamed) fetch(out + kNumbers + k * kLanes<V>);
      u[k] = leak * carry[k] + gain * load<V>(x + k * kLanes<V>);
      carry[k] = neuron.rest(u[k]);
    }
  }
  const T* by_output = static_cast<const T*>(task.by_output) + task.steps * task.by_output_stride + first;
  V by_rest[kUnits] = {};
  for (std::size_t t = task.steps; t-- > 0;) {
    x -= task.current_stride, u -= kUnits, by_output -= task.by_output_stride, out -= task.features;
    for (std::size_t k = 0; k < kUnits; ++k) {
      fetch(by_output + 2 * kNumbers + k * kLanes<V>);
      const V by_u = neuron.back(u[k], load<V>(by_output + k * kLanes<V>), by_rest[k], attached);
      by_rest[k] = full ? leak * by_u : V{};
      put<V>(streamed, out + k * kLanes<V>, gain * by_u);
      if (!learned) continue;
      by_gain[k] += by_u * load<V>(x + k * kLanes<V>);
      if (t > 0) by_leak[k] += by_u * neuron.rest((u - kUnits)[k]);
    }
  }
  add_learned<kUnits>(task, by_leak, by_gain, sums);
}

// Calls columns(registers, zero of the width, first neuron) for many registers side by side, for single ones, and for
// the last neurons one by one.
template <class T, class Columns>
void in_columns(std::size_t first, std::size_t count, const Columns& columns) {
  using V = Lanes<T>;
  const std::size_t end = first + count;
  const std::integral_constant<std::size_t, kAbreast> abreast{};
  const std::integral_constant<std::size_t, 1> alone{};
  for (; first + kAbreast * kLanes<V> <= end; first += kAbreast * kLanes<V>) columns(abreast, V{}, first);
  for (; first + kLanes<V> <= end; first += kLanes<V>) columns(alone, V{}, first);
  for (; first < end; ++first) columns(alone, T{}, first);
  end_streams();
}

template <class T, template <class, template <class> class, bool> class N, template <class> class S, bool kHard>
void forward_block(const ScanTask& task, std::size_t first, std::size_t count, void*, double*) {
  in_columns<T>(first, count, [&](auto units, auto zero, std::size_t at) {
    using V = decltype(zero);
    forward_columns<units, V>(task, N<V, S, kHard>{static_cast<T>(task.threshold), S<V>(task.shape)}, at);
  });
}

template <class T, template <class, template <class> class, bool> class N, template <class> class S, bool kHard>
void backward_block(const ScanTask& task, std::size_t first, std::size_t count, void* scratch, double* sums) {
  in_columns<T>(first, count, [&](auto units, auto zero, std::size_t at) {
    using V = decltype(zero);
    const N<V, S, kHard> neuron{static_cast<T>(task.threshold), S<V>(task.shape)};
    backward_columns<units, V>(task, neuron, at, scratch, sums);
  });
}
