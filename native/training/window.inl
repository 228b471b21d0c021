// The sliding window over time: blocks of neurons over all steps. Included by kernels.inl.

template <class T>
T window_threshold(const WindowTask& task, std::size_t t) {
  return static_cast<const T*>(task.threshold)[task.shared_threshold ? 0 : t];
}

constexpr std::size_t window_tap(const WindowTask& task, std::size_t i, std::size_t t) {
  return task.shared_taps ? i : i * task.steps + t;
}

// The first tap of step t that meets a current; those before it meet zeros.
constexpr std::size_t first_tap(const WindowTask& task, std::size_t t) {
  return task.order > t + 1 ? task.order - 1 - t : 0;
}

// The current that tap i of step t meets, of the neurons from `at` on.
template <class V>
V window_current(const WindowTask& task, std::size_t i, std::size_t t, std::size_t at) {
  return load<V>(static_cast<const Number<V>*>(task.current) + (t + 1 + i - task.order) * task.current_stride + at);
}

// How far the membranes of step t are above the threshold: one product and one sum per tap, in the order of the taps.
template <class V>
V window_distance(const WindowTask& task, std::size_t t, std::size_t at) {
  const auto* taps = static_cast<const Number<V>*>(task.taps);
  std::size_t i = first_tap(task, t);
  V h = taps[window_tap(task, i, t)] * window_current<V>(task, i, t, at);
  while (++i < task.order) h += taps[window_tap(task, i, t)] * window_current<V>(task, i, t, at);
  return h - window_threshold<Number<V>>(task, t);
}

// Calls columns(zero of the width, first neuron) for neurons side by side, then for single ones.
template <class T, class Columns>
void across(std::size_t first, std::size_t count, const Columns& columns) {
  const std::size_t end = first + count;
  for (; first + kLanes<Lanes<T>> <= end; first += kLanes<Lanes<T>>) columns(Lanes<T>{}, first);
  for (; first < end; ++first) columns(T{}, first);
}

template <class T>
void window_forward(const WindowTask& task, std::size_t first, std::size_t count, void*, double*) {
  for (std::size_t t = 0; t < task.steps; ++t) {
    T* out = static_cast<T*>(task.out) + t * task.features;
    across<T>(first, count, [&](auto zero, std::size_t at) {
      using V = decltype(zero);
      store<V>(out + at, above_zero<V>(window_distance<V>(task, t, at)));
    });
  }
}

// Sum over the neurons of value(zero of the width, neuron).
template <class T, class Value>
double summed(std::size_t first, std::size_t count, const Value& value) {
  Lanes<T> wide{};
  T single{};
  across<T>(first, count, [&](auto zero, std::size_t at) {
    if constexpr (sizeof(zero) == sizeof(T)) {
      single += value(zero, at);
    } else {
      wide += value(zero, at);
    }
  });
  return total(wide) + single;
}

// From the last step to the first. `scratch`, [order][count]: the gradients by the membranes of `order` steps, in turns.
// Once those of steps t to t + order - 1 are there, the gradient by the current of step t is their weighted sum.
// sums: by the taps, then by the thresholds.
template <class T, template <class> class S>
void window_backward(const WindowTask& task, std::size_t first, std::size_t count, void* scratch, double* sums) {
  const T* taps = static_cast<const T*>(task.taps);
  double* by_threshold = sums + task.order * (task.shared_taps ? 1 : task.steps);
  const auto by_membrane = [=, &task](std::size_t t) {
    return static_cast<T*>(scratch) + t % task.order * count - first;
  };
  for (std::size_t t = task.steps; t-- > 0;) {
    T *by_h = by_membrane(t), *out = static_cast<T*>(task.out) + t * task.features;
    const T* by_output = static_cast<const T*>(task.by_output) + t * task.by_output_stride;
    across<T>(first, count, [&](auto zero, std::size_t at) {
      using V = decltype(zero);
      store<V>(by_h + at, load<V>(by_output + at) * S<V>(task.shape)(window_distance<V>(task, t, at)));
    });
    by_threshold[task.shared_threshold ? 0 : t] -=
        summed<T>(first, count, [=](auto zero, std::size_t at) { return load<decltype(zero)>(by_h + at); });
    for (std::size_t i = first_tap(task, t); i < task.order; ++i) {
      sums[window_tap(task, i, t)] += summed<T>(first, count, [=, &task](auto zero, std::size_t at) {
        using V = decltype(zero);
        return load<V>(by_h + at) * window_current<V>(task, i, t, at);
      });
    }
    const std::size_t later = std::min(task.order, task.steps - t);
    across<T>(first, count, [&](auto zero, std::size_t at) {
      using V = decltype(zero);
      V sum{};
      for (std::size_t d = 0; d < later; ++d) {
        sum += taps[window_tap(task, task.order - 1 - d, t + d)] * load<V>(by_membrane(t + d) + at);
      }
      store<V>(out + at, sum);
    });
  }
}

template <class T>
constexpr WindowKernels window_kernels() {
  return {window_forward<T>,
          {{window_backward<T, Triangle>, window_backward<T, Sigmoid>, window_backward<T, ATan>,
            window_backward<T, Rectangle>}}};
}
