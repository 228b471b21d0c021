// Products of points, see winograd.hpp, in blocks that stay in registers: `kRows` rows by one panel of two registers.
// Included by kernels.inl.

// sums[row] += sum over i < count of a[i * kStep + row * kRow] * b[i]; b has panels.
template <class T, std::size_t kStep, std::size_t kRow>
inline void add_products(Lanes<T> (&sums)[kRows<T>][2], const T* a, const T* b, std::size_t count) {
  using V = Lanes<T>;
  for (std::size_t i = 0; i < count; ++i, a += kStep, b += kPanel<T>) {
    const V left = load<V>(b), right = load<V>(b + kLanes<V>);
    for (std::size_t row = 0; row < kRows<T>; ++row) {
      const V one = everywhere<V>(a[row * kRow]);
      sums[row][0] = multiply_add<V>(one, left, sums[row][0]);
      sums[row][1] = multiply_add<V>(one, right, sums[row][1]);
    }
  }
}

template <class T>
void conv_forward(const WinogradTask& task, const void* weights, std::size_t first, std::size_t count,
                  std::size_t block, void* scratch) {
  using V = Lanes<T>;
  const std::size_t inputs = task.maps.channels, apart = between_points<T>(inputs, block);
  T *zeros = static_cast<T*>(scratch), *points = zeros + in_panels(inputs, kPanel<T>), *out = points + kPoints * apart;
  std::memset(zeros, 0, in_panels(inputs, kPanel<T>) * sizeof(T));
  tile_points<T, InputLine, 1>(task.maps, first, 0, in_panels(count, kRows<T>), block, zeros, points);
  for (std::size_t panel = 0; panel * kPanel<T> < task.outputs; ++panel) {
    const T* w = static_cast<const T*>(weights) + panel * kPoints * inputs * kPanel<T>;
    for (std::size_t point = 0; point < kPoints; ++point, w += inputs * kPanel<T>) {
      for (std::size_t tile = 0; tile < count; tile += kRows<T>) {
        V sums[kRows<T>][2] = {};
        for (std::size_t c = 0; c < inputs; c += kPanel<T>) {
          const T* a = points + point * apart + c * block + tile * kPanel<T>;
          V part[kRows<T>][2] = {};  // sums of sums: they round less
          add_products<T, 1, kPanel<T>>(part, a, w + c * kPanel<T>, std::min(kPanel<T>, inputs - c));
          for (std::size_t row = 0; row < kRows<T>; ++row) {
            sums[row][0] += part[row][0];
            sums[row][1] += part[row][1];
          }
        }
        T* to = out + point * between_points<T>(kPanel<T>, block) + tile * kPanel<T>;
        for (std::size_t row = 0; row < kRows<T>; ++row, to += kPanel<T>) {
          store<V>(to, sums[row][0]);
          store<V>(to + kLanes<V>, sums[row][1]);
        }
      }
    }
    put_outputs<T>(task, out, panel, first, count, block);
  }
  end_streams();
}

template <class T>
void weight_products(const WinogradWeightTask& task, const void* inputs, const void* gradients, std::size_t point,
                     std::size_t panel, std::size_t count, std::size_t block, bool set, void* sums) {
  using V = Lanes<T>;
  const std::size_t outputs = in_panels(task.by_output.channels, kPanel<T>);
  const T* x = static_cast<const T*>(inputs) + point * between_points<T>(task.maps.channels, block) +
               panel * kPanel<T> * block;
  const T* g = static_cast<const T*>(gradients) + point * between_points<T>(task.by_output.channels, block);
  T* to = static_cast<T*>(sums) + (point * in_panels(task.maps.channels, kPanel<T>) + panel * kPanel<T>) * outputs;
  for (std::size_t k = 0; k < outputs; k += kPanel<T>) {
    for (std::size_t c = 0; c < kPanel<T>; c += kRows<T>) {
      V block_sums[kRows<T>][2] = {};
      add_products<T, kPanel<T>, 1>(block_sums, x + c, g + k * block, count);
      for (std::size_t row = 0; row < kRows<T>; ++row) {
        for (std::size_t half = 0; half < 2; ++half) {
          T* at = to + (c + row) * outputs + k + half * kLanes<V>;
          store<V>(at, set ? block_sums[row][half] : load<V>(at) + block_sums[row][half]);
        }
      }
    }
  }
}

template <class T>
constexpr WinogradKernels winograd_kernels() {
  return {kPanel<T>,
          kRows<T>,
          weight_points<T>,
          conv_forward<T>,
          tile_points<T, InputLine, 1>,
          tile_points<T, OutputAdjoint, 0>,
          weight_products<T>,
          by_weights<T>};
}
