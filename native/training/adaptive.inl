// Neurons with a leak whose threshold rises with their own spikes. Included by kernels.inl. With the adaptation a, 0 at
// the start, every step is
//
//     u = leak * c + gain * x      v = threshold + strength * a      s = [u > v]      a = decay * a + (1 - decay) * s
//
// and c = 0 after a spike (hard), or u less v (soft).

template <class V, template <class> class S, bool kHard>
struct Adaptive {
  Number<V> threshold, strength, decay, rise;
  S<V> surrogate;
  explicit Adaptive(const ScanTask& task)
      : threshold(static_cast<Number<V>>(task.threshold)), strength(static_cast<Number<V>>(task.strength)),
        decay(static_cast<Number<V>>(task.decay)), rise(static_cast<Number<V>>(1 - task.decay)),
        surrogate(task.shape) {}

  V raised(V a) const { return threshold + strength * a; }
  V fire(V u, V v) const { return choose(u > v, spread<V>(1), V{}); }
  V rest(V u, V v) const { return choose(u > v, kHard ? u - u : u - v, u); }
  V adapt(V a, V s) const { return decay * a + rise * s; }

  // d loss / d u for the gradients of output, rest and the next adaptation, whose place the gradient of this one takes
  V back(V u, V v, V by_output, V by_rest, V& by_adaptation, bool attached) const {
    const V by_fired = by_output + rise * by_adaptation;
    const V by_spike = attached ? by_fired - by_rest * (kHard ? u : v) : by_fired;
    const V by_distance = by_spike * surrogate(u - v);
    const V by_raised = kHard ? -by_distance : -by_distance - choose(u > v, by_rest, V{});
    by_adaptation = decay * by_adaptation + strength * by_raised;
    return by_distance + (kHard ? choose(u > v, by_rest - by_rest, by_rest) : by_rest);
  }
};

template <std::size_t kUnits, class V, class N>
void forward_adaptive(const ScanTask& task, const N neuron, std::size_t first) {
  using T = Number<V>;
  constexpr std::size_t kNumbers = kUnits * kLanes<V>;
  const T leak = static_cast<T>(task.leak), gain = static_cast<T>(task.gain);
  const bool streamed = task.streamed;
  const T* x = static_cast<const T*>(task.current) + first;
  T* out = static_cast<T*>(task.out) + first;
  V carry[kUnits] = {}, adaptation[kUnits] = {};
  for (std::size_t t = 0; t < task.steps; ++t, x += task.current_stride, out += task.features) {
    for (std::size_t k = 0; k < kUnits; ++k) {
      if (streamed) fetch(x + 2 * kNumbers + k * kLanes<V>);
      const V u = leak * carry[k] + gain * load<V>(x + k * kLanes<V>), v = neuron.raised(adaptation[k]);
      const V s = neuron.fire(u, v);
      carry[k] = neuron.rest(u, v);
      adaptation[k] = neuron.adapt(adaptation[k], s);
      put<V>(streamed, out + k * kLanes<V>, s);
    }
  }
}

// `scratch`: [2 + 2 * steps][kUnits], two sums for the learned numbers, then membranes and thresholds of every step.
template <std::size_t kUnits, class V, class N>
void backward_adaptive(const ScanTask& task, const N neuron, std::size_t first, void* scratch, double* sums) {
  using T = Number<V>;
  constexpr std::size_t kNumbers = kUnits * kLanes<V>;
  const T leak = static_cast<T>(task.leak), gain = static_cast<T>(task.gain);
  const bool attached = !task.detach_reset, learned = task.learned, streamed = task.streamed;
  const T* x = static_cast<const T*>(task.current) + first;
  V *by_leak = static_cast<V*>(scratch), *by_gain = by_leak + kUnits, *u = by_gain + kUnits;
  if (learned) std::fill_n(by_leak, 2 * kUnits, V{});
  V carry[kUnits] = {}, adaptation[kUnits] = {};
  for (std::size_t t = 0; t < task.steps; ++t, x += task.current_stride, u += 2 * kUnits) {
    V* v = u + kUnits;
    for (std::size_t k = 0; k < kUnits; ++k) {
      fetch(x + 2 * kNumbers + k * kLanes<V>);
      u[k] = leak * carry[k] + gain * load<V>(x + k * kLanes<V>);
      v[k] = neuron.raised(adaptation[k]);
      carry[k] = neuron.rest(u[k], v[k]);
      adaptation[k] = neuron.adapt(adaptation[k], neuron.fire(u[k], v[k]));
    }
  }
  const T* by_output = static_cast<const T*>(task.by_output) + task.steps * task.by_output_stride + first;
  T* out = static_cast<T*>(task.out) + task.steps * task.features + first;
  V by_rest[kUnits] = {}, by_adaptation[kUnits] = {};
  for (std::size_t t = task.steps; t-- > 0;) {
    x -= task.current_stride, u -= 2 * kUnits, by_output -= task.by_output_stride, out -= task.features;
    const V *v = u + kUnits, *earlier = u - 2 * kUnits;
    for (std::size_t k = 0; k < kUnits; ++k) {
      fetch(by_output + 2 * kNumbers + k * kLanes<V>);
      const V given = load<V>(by_output + k * kLanes<V>);
      const V by_u = neuron.back(u[k], v[k], given, by_rest[k], by_adaptation[k], attached);
      by_rest[k] = leak * by_u;
      put<V>(streamed, out + k * kLanes<V>, gain * by_u);
      if (!learned) continue;
      by_gain[k] += by_u * load<V>(x + k * kLanes<V>);
      if (t > 0) by_leak[k] += by_u * neuron.rest(earlier[k], earlier[kUnits + k]);
    }
  }
  add_learned<kUnits>(task, by_leak, by_gain, sums);
}

template <class T, bool kHard>
void forward_adaptive_block(const ScanTask& task, std::size_t first, std::size_t count, void*, double*) {
  in_columns<T>(first, count, [&](auto units, auto zero, std::size_t at) {
    using V = decltype(zero);
    forward_adaptive<units, V>(task, Adaptive<V, NoSurrogate, kHard>(task), at);
  });
}

template <class T, template <class> class S, bool kHard>
void backward_adaptive_block(const ScanTask& task, std::size_t first, std::size_t count, void* scratch, double* sums) {
  in_columns<T>(first, count, [&](auto units, auto zero, std::size_t at) {
    using V = decltype(zero);
    backward_adaptive<units, V>(task, Adaptive<V, S, kHard>(task), at, scratch, sums);
  });
}
