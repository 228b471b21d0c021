// To the points of tiles and weights and back, register by register of channels, see winograd.hpp. Included by kernels.inl.

template <class T>
constexpr std::size_t kPanel = 2 * kLanes<Lanes<T>>;
template <class T>
constexpr std::size_t kRows = std::min<std::size_t>(kPanel<T>, BITSPIKE_TRAINING_BYTES == 64 ? 8 : 4);

template <class T>
constexpr std::size_t between_points(std::size_t channels, std::size_t block) {
  return training::between_points(channels, kPanel<T>, block, sizeof(T));
}

// The first `count` lanes, zeros in the others.
template <class V>
inline V load_some(const Number<V>* from, std::size_t count) {
  Number<V> numbers[kLanes<V>] = {};
  std::memcpy(numbers, from, count * sizeof(Number<V>));
  return load<V>(numbers);
}

template <class V>
inline void store_some(Number<V>* to, V value, std::size_t count) {
  std::memcpy(to, &value, count * sizeof(Number<V>));
}

// Where the first channels of kSize x kSize pixels stand, from `margin` pixels up and left of a tile's first output on;
// `zeros` for those outside of the map, and of a tile after the last one.
template <class T, std::size_t kSize>
void locate(const Maps& maps, std::size_t tile, std::size_t margin, const T* zeros, const T** at) {
  const std::size_t within = tile % maps.tiles_of_image();
  const std::size_t top = within / maps.tile_columns() * kTile, left = within % maps.tile_columns() * kTile;
  const T* image = static_cast<const T*>(maps.numbers) +
                   tile / maps.tiles_of_image() * maps.height * maps.width * maps.channels;
  for (std::size_t i = 0; i < kSize; ++i) {
    for (std::size_t j = 0; j < kSize; ++j) {
      const std::size_t y = top + i - margin, x = left + j - margin;  // below 0 they are far above any size
      const bool inside = y < maps.height && x < maps.width && tile < maps.tiles();
      at[i * kSize + j] = inside ? image + (y * maps.width + x) * maps.channels : zeros;
    }
  }
}

template <class T, class Line, std::size_t kMargin>
void tile_points(const Maps& maps, std::size_t first, std::size_t from, std::size_t to, std::size_t block,
                 const void* zeros, void* points) {
  using V = Lanes<T>;
  constexpr std::size_t kSize = Line::in;
  const std::size_t apart = between_points<T>(maps.channels, block), channels = in_panels(maps.channels, kPanel<T>);
  std::array<const T*, kSize * kSize> at, next;
  locate<T, kSize>(maps, first + from, kMargin, static_cast<const T*>(zeros), next.data());
  for (std::size_t tile = from; tile < to; ++tile) {
    at = next;
    locate<T, kSize>(maps, first + tile + 1, kMargin, static_cast<const T*>(zeros), next.data());
    for (std::size_t c = 0; c < channels; c += kLanes<V>) {
      T* out = static_cast<T*>(points) + c / kPanel<T> * kPanel<T> * block + tile * kPanel<T> + c % kPanel<T>;
      const auto put = [=](std::size_t i, std::size_t j, V v) { store<V>(out + (i * Line::out + j) * apart, v); };
      for (const T* pixel : next) fetch(pixel + c);  // short pieces of memory, which are not foreseen
      if (c + kLanes<V> <= maps.channels) {
        both_sides<Line, V>([=, &at](std::size_t i, std::size_t j) { return load<V>(at[i * kSize + j] + c); }, put);
      } else {
        const std::size_t left = c < maps.channels ? maps.channels - c : 0;
        both_sides<Line, V>(
            [=, &at](std::size_t i, std::size_t j) { return load_some<V>(at[i * kSize + j] + c, left); }, put);
      }
    }
  }
}

template <class T>
void weight_points(const WinogradTask& task, std::size_t panel, void* points) {
  using V = Lanes<T>;
  const std::size_t inputs = task.maps.channels, apart = inputs * kPanel<T>;
  for (std::size_t input = 0; input < inputs; ++input) {
    for (std::size_t lane = 0; lane < kPanel<T>; lane += kLanes<V>) {
      T weights[9][kLanes<V>] = {};
      const std::size_t first = panel * kPanel<T> + lane;
      for (std::size_t k = 0; k < kLanes<V> && first + k < task.outputs; ++k) {
        const T* from = static_cast<const T*>(task.weights);
        from += (first + k) * task.output_stride + input * task.input_stride;
        for (std::size_t i = 0; i < 9; ++i) weights[i][k] = from[task.turned ? 8 - i : i];
      }
      T* out = static_cast<T*>(points) + input * kPanel<T> + lane;
      both_sides<WeightLine, V>([&](std::size_t i, std::size_t j) { return load<V>(weights[i * 3 + j]); },
                                [=](std::size_t i, std::size_t j, V v) { store<V>(out + (i * 6 + j) * apart, v); });
    }
  }
}

// Outputs of tiles first to first + count, of the channels of one panel.
template <class T>
void put_outputs(const WinogradTask& task, const T* points, std::size_t panel, std::size_t first, std::size_t count,
                 std::size_t block) {
  using V = Lanes<T>;
  const Maps& maps = task.maps;
  const std::size_t apart = between_points<T>(kPanel<T>, block);
  for (std::size_t c = panel * kPanel<T>; c < std::min(task.outputs, (panel + 1) * kPanel<T>); c += kLanes<V>) {
    const std::size_t channels = std::min(kLanes<V>, task.outputs - c);
    const V bias = task.bias ? load_some<V>(static_cast<const T*>(task.bias) + c, channels) : V{};
    for (std::size_t tile = 0; tile < count; ++tile) {
      const std::size_t within = (first + tile) % maps.tiles_of_image(), image = (first + tile) / maps.tiles_of_image();
      const std::size_t top = within / maps.tile_columns() * kTile, left = within % maps.tile_columns() * kTile;
      T* out = static_cast<T*>(task.out) + ((image * maps.height + top) * maps.width + left) * task.outputs + c;
      const T* from = points + tile * kPanel<T> + c % kPanel<T>;
      const auto get = [=](std::size_t i, std::size_t j) { return load<V>(from + (i * 6 + j) * apart); };
      if (top + kTile <= maps.height && left + kTile <= maps.width && channels == kLanes<V>) {
        both_sides<OutputLine, V>(get, [=, &task](std::size_t i, std::size_t j, V v) {
          T* to = out + (i * task.maps.width + j) * task.outputs;
          if (sizeof(V) == kMostBytes && task.streamed) return stream<V>(to, v + bias);  // a whole line of a cache
          store<V>(to, v + bias);
        });
      } else {
        both_sides<OutputLine, V>(get, [=, &task](std::size_t i, std::size_t j, V v) {
          if (top + i >= task.maps.height || left + j >= task.maps.width) return;
          store_some<V>(out + (i * task.maps.width + j) * task.outputs, v + bias, channels);
        });
      }
    }
  }
}

template <class T>
void by_weights(const WinogradWeightTask& task, std::size_t input, const void* sums) {
  using V = Lanes<T>;
  const std::size_t count = task.by_output.channels, outputs = in_panels(count, kPanel<T>);
  const std::size_t apart = in_panels(task.maps.channels, kPanel<T>) * outputs;
  const T* from = static_cast<const T*>(sums) + input * outputs;
  for (std::size_t k = 0; k < count; k += kLanes<V>) {
    T made[9][kLanes<V>];
    both_sides<WeightAdjoint, V>([=](std::size_t i, std::size_t j) { return load<V>(from + (i * 6 + j) * apart + k); },
                                 [&](std::size_t i, std::size_t j, V v) { store<V>(made[i * 3 + j], v); });
    for (std::size_t lane = 0; lane < std::min(kLanes<V>, count - k); ++lane) {
      T* to = static_cast<T*>(task.by_weights) + ((k + lane) * task.maps.channels + input) * 9;
      for (std::size_t i = 0; i < 9; ++i) to[i] = made[i][lane];
    }
  }
}
