// The neurons with a leak: what they fire and keep, and blocks of them over all steps. Included by kernels.inl.

// Spikes 0 and 1. Hard: the membrane is 0 after a spike; soft: less by the threshold.
template <class V, template <class> class S, bool kHard>
struct Binary {
  Number<V> threshold;
  S<V> surrogate;
  V fire(V u) const { return above_zero<V>(u - threshold); }
  V rest(V u, V s) const { return kHard ? (1 - s) * u : u - threshold * s; }
  // d loss / d u for the gradients of output and rest
  V back(V u, V by_output, V by_rest, bool attached) const {
    const V through = kHard ? by_rest * u : by_rest * threshold;
    const V by_spike = attached ? by_output - through : by_output;
    return by_spike * surrogate(u - threshold) + (kHard ? by_rest * (1 - fire(u)) : by_rest);
  }
};

// Spikes -1, 0 and 1: one step at each of the two thresholds.
template <class V, template <class> class S, bool kHard>
struct Ternary {
  Number<V> threshold;
  S<V> surrogate;
  V up(V u) const { return above_zero<V>(u - threshold); }
  V down(V u) const { return above_zero<V>(-u - threshold); }
  V fire(V u) const { return up(u) - down(u); }
  V rest(V u, V s) const { return kHard ? (1 - up(u) - down(u)) * u : u - threshold * s; }
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
  V rest(V u, V s) const { return u - s; }
  V back(V u, V by_output, V by_rest, bool attached) const {
    const V by_fired = attached ? by_output - by_rest : by_output;
    return choose(u < 0, V{}, choose(u > threshold, V{}, by_fired)) + by_rest;
  }
};

template <class V>
inline void put(const ScanTask& task, Number<V>* to, V value) {
  if (sizeof(V) > sizeof(Number<V>) && task.streamed) {
    stream<V>(to, value);
  } else {
    store<V>(to, value);
  }
}

// kUnits registers of neurons side by side, starting at `first`, through all steps.
template <std::size_t kUnits, class V, class N>
void forward_columns(const ScanTask& task, const N& neuron, std::size_t first) {
  using T = Number<V>;
  const T leak = static_cast<T>(task.leak), gain = static_cast<T>(task.gain);
  const T* x = static_cast<const T*>(task.current) + first;
  T* out = static_cast<T*>(task.out) + first;
  V carry[kUnits] = {};
  for (std::size_t t = 0; t < task.steps; ++t, x += task.current_stride, out += task.features) {
    for (std::size_t k = 0; k < kUnits; ++k) {
      const V u = leak * carry[k] + gain * load<V>(x + k * kLanes<V>), s = neuron.fire(u);
      carry[k] = neuron.rest(u, s);
      put<V>(task, out + k * kLanes<V>, s);
    }
  }
}

// `scratch`: the membranes of all steps, [steps][kUnits].
template <std::size_t kUnits, class V, class N>
void backward_columns(const ScanTask& task, const N& neuron, std::size_t first, void* scratch, double* sums) {
  using T = Number<V>;
  const T leak = static_cast<T>(task.leak), gain = static_cast<T>(task.gain);
  const bool attached = !task.detach_reset, full = !task.spatial;
  const T* x = static_cast<const T*>(task.current) + first;
  V* u = static_cast<V*>(scratch);
  V carry[kUnits] = {};
  for (std::size_t t = 0; t < task.steps; ++t, x += task.current_stride, u += kUnits) {
    for (std::size_t k = 0; k < kUnits; ++k) {
      fetch(x + (kUnits + k) * kLanes<V>);  // of the neurons after these: rows are too far apart to be foreseen
      u[k] = leak * carry[k] + gain * load<V>(x + k * kLanes<V>);
      carry[k] = neuron.rest(u[k], neuron.fire(u[k]));
    }
  }
  const T* by_output = static_cast<const T*>(task.by_output) + task.steps * task.by_output_stride + first;
  T* out = static_cast<T*>(task.out) + task.steps * task.features + first;
  V by_rest[kUnits] = {}, by_leak[kUnits] = {}, by_gain[kUnits] = {};
  for (std::size_t t = task.steps; t-- > 0;) {
    x -= task.current_stride, u -= kUnits, by_output -= task.by_output_stride, out -= task.features;
    for (std::size_t k = 0; k < kUnits; ++k) {
      fetch(by_output + (kUnits + k) * kLanes<V>);
      const V by_u = neuron.back(u[k], load<V>(by_output + k * kLanes<V>), by_rest[k], attached);
      by_rest[k] = full ? leak * by_u : V{};
      put<V>(task, out + k * kLanes<V>, gain * by_u);
      if (!task.learned) continue;
      by_gain[k] += by_u * load<V>(x + k * kLanes<V>);
      if (t > 0) by_leak[k] += by_u * neuron.rest(u[k - kUnits], neuron.fire(u[k - kUnits]));
    }
  }
  for (std::size_t k = 0; task.learned && k < kUnits; ++k) {
    sums[0] += total(by_leak[k]);
    sums[1] += total(by_gain[k]);
  }
}

// The neurons first to first + count: many side by side, then fewer, the last ones one by one.
template <class T, template <class, template <class> class, bool> class N, template <class> class S, bool kHard>
void forward_block(const ScanTask& task, std::size_t first, std::size_t count, void*, double*) {
  using V = Lanes<T>;
  const N<V, S, kHard> wide{static_cast<T>(task.threshold), S<V>(task.shape)};
  const N<T, S, kHard> narrow{static_cast<T>(task.threshold), S<T>(task.shape)};
  const std::size_t end = first + count;
  for (; first + kAbreast * kLanes<V> <= end; first += kAbreast * kLanes<V>) forward_columns<kAbreast, V>(task, wide, first);
  for (; first + kLanes<V> <= end; first += kLanes<V>) forward_columns<1, V>(task, wide, first);
  for (; first < end; ++first) forward_columns<1, T>(task, narrow, first);
  end_streams();
}

template <class T, template <class, template <class> class, bool> class N, template <class> class S, bool kHard>
void backward_block(const ScanTask& task, std::size_t first, std::size_t count, void* scratch, double* sums) {
  using V = Lanes<T>;
  const N<V, S, kHard> wide{static_cast<T>(task.threshold), S<V>(task.shape)};
  const N<T, S, kHard> narrow{static_cast<T>(task.threshold), S<T>(task.shape)};
  const std::size_t end = first + count;
  for (; first + kAbreast * kLanes<V> <= end; first += kAbreast * kLanes<V>) {
    backward_columns<kAbreast, V>(task, wide, first, scratch, sums);
  }
  for (; first + kLanes<V> <= end; first += kLanes<V>) backward_columns<1, V>(task, wide, first, scratch, sums);
  for (; first < end; ++first) backward_columns<1, T>(task, narrow, first, scratch, sums);
  end_streams();
}

template <class T, template <class> class S>
constexpr std::array<ScanBlock, kKinds> backward_kinds() {
  return {{backward_block<T, Binary, S, true>, backward_block<T, Binary, S, false>, backward_block<T, Ternary, S, true>,
          backward_block<T, Ternary, S, false>, backward_block<T, Integer, S, false>}};
}

template <class T>
constexpr ScanKernels scan_kernels() {
  return {{{forward_block<T, Binary, NoSurrogate, true>, forward_block<T, Binary, NoSurrogate, false>,
           forward_block<T, Ternary, NoSurrogate, true>, forward_block<T, Ternary, NoSurrogate, false>,
           forward_block<T, Integer, NoSurrogate, false>}},
          {{backward_kinds<T, Triangle>(), backward_kinds<T, Sigmoid>(), backward_kinds<T, ATan>(),
           backward_kinds<T, Rectangle>()}}};
}
