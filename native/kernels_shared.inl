// Loops that every level compiles for itself: included by each kernels_*.cpp after it has defined `Vec`, 16 lanes
// of int32, `NarrowVec`, lanes for tasks that fit 16 bits (`Vec` itself will do), and `kLifCopies`, whether narrow neurons
// with a hard reset get loops of their own (faster, but space), inside an unnamed namespace so that no level's code can
// replace another's when linking.
//
// Arithmetic wraps (uint32_t): partial sums may leave 32 bits, the loader has proven that results do not.

void depthwise(const std::int16_t* weights, const std::int16_t* row, std::size_t taps, std::size_t row_stride,
               std::size_t lanes, std::int32_t* out) {
  for (std::size_t c = 0; c < lanes; ++c) out[c] = 0;
  for (std::size_t tap = 0; tap < taps; ++tap) {
    const std::int16_t* w = weights + tap * lanes;
    const std::int16_t* x = row + tap * row_stride;
    for (std::size_t c = 0; c < lanes; ++c) {
      out[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(out[c]) + static_cast<std::uint32_t>(w[c] * x[c]));
    }
  }
}

std::int32_t dot_features(const std::int8_t* weights, const std::int32_t* features, std::size_t count) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += static_cast<std::uint32_t>(static_cast<std::int32_t>(weights[i])) * static_cast<std::uint32_t>(features[i]);
  }
  return static_cast<std::int32_t>(sum);
}

// Channel bits of one pixel; never more than its own bytes.
inline void store_bits(std::uint8_t* out, std::uint32_t bits, std::size_t bytes) {
  if (bytes == 4) {
    std::memcpy(out, &bits, 4);
  } else if (bytes == 2) {
    std::memcpy(out, &bits, 2);
  } else {
    for (std::size_t i = 0; i < bytes; ++i, bits >>= 8) out[i] = static_cast<std::uint8_t>(bits);
  }
}

// One block of channels. `Value` is what the sources hold; `soft` resets; `shifted`: some membrane of the block drops
// bits when it is carried over. Both are `bool`, or constants where a level has copies of this function.
template <class V, class Value, class Soft, class Shifted>
void lif_block(const LifTask& task, std::size_t first, Soft soft, Shifted shifted) {
  const std::size_t left_over = task.channels - first, used = left_over < V::kCount ? left_over : V::kCount;
  const std::size_t bytes = (used + 7) / 8;
  const std::uint32_t valid = used == 32 ? 0xFFFFFFFFu : (1u << used) - 1;
  // All of the task is copied: it would be read again after every byte that is stored.
  const bool two_sources = task.source_count == 2, leaks = task.leak_shift != 0;
  const std::size_t steps = task.steps, out_stride = task.out_step_stride;
  const V zero = V::set(0), one = V::set(1), leak = V::set(task.leak_shift);
  const V limit = V::set(task.limit), lowest = V::set(-task.limit);
  const V bias = V::load(task.bias + first), threshold = V::load(task.threshold + first);
  const V shift = V::load(task.shift + first);
  const V half = (one << shift) >> one;
  const TileSource left = task.sources[0], right = two_sources ? task.sources[1] : TileSource{};
  const auto read = [first](const std::int32_t* multiplier, const Value* values) {
    return multiplier ? V::load(values) * V::load(multiplier + first) : V::load(values);
  };
  const auto* left_values = static_cast<const Value*>(left.values) + first;
  const auto* right_values = two_sources ? static_cast<const Value*>(right.values) + first : nullptr;
  for (std::size_t p = 0; p < task.pixels; ++p) {
    const Value* x = left_values + p * left.pixel_stride;
    const Value* y = two_sources ? right_values + p * right.pixel_stride : nullptr;
    std::uint8_t* out = task.out + p * task.out_pixel_stride + first / 8;
    V carry = zero;
    for (std::size_t t = 0; t < steps; ++t, out += out_stride) {
      V u = read(left.multiplier, x) + bias;
      x += left.step_stride;
      if (two_sources) {
        u = u + read(right.multiplier, y);
        y += right.step_stride;
      }
      if (leaks) carry = carry - (carry >> leak);
      u = u + carry;
      const auto spike = at_least(u, threshold);
      store_bits(out, to_bits(spike) & valid, bytes);
      V rest = soft ? u - where(spike, threshold, zero) : where(spike, zero, u);
      if (shifted) rest = (rest + half) >> shift;
      carry = max(min(rest, limit), lowest);
      if (shifted) carry = carry << shift;
    }
  }
}

template <class V, class Value>
void lif_blocks(const LifTask& task) {
  constexpr bool copies = kLifCopies && sizeof(Value) == 2;  // most neurons are
  for (std::size_t first = 0; first < task.channels; first += V::kCount) {
    std::int32_t shifts = 0;
    for (std::size_t i = 0; i < V::kCount; ++i) shifts |= task.shift[first + i];
    if (!copies || task.soft_reset) {
      lif_block<V, Value>(task, first, task.soft_reset, shifts != 0);
    } else if constexpr (copies) {  // only then compiled
      shifts != 0 ? lif_block<V, Value>(task, first, std::false_type(), std::true_type())
                  : lif_block<V, Value>(task, first, std::false_type(), std::false_type());
    }
  }
}

// See ir.Lif for the equations. The membrane lives in registers over all steps.
void lif(const LifTask& task) {
  task.narrow ? lif_blocks<NarrowVec, std::int16_t>(task) : lif_blocks<Vec, std::int32_t>(task);
}

// Never more than the channels there are: what follows is another pixel's.
inline void store_used(std::int32_t* out, Vec v, std::size_t used) {
  if (used >= Vec::kCount) {
    v.store(out);
    return;
  }
  std::int32_t all[Vec::kCount];
  v.store(all);
  std::memcpy(out, all, used * sizeof *all);
}

inline const std::int32_t* values_of(const TileSource& source, std::size_t pixel, std::size_t step) {
  return static_cast<const std::int32_t*>(source.values) + pixel * source.pixel_stride + step * source.step_stride;
}

// See ir.Stream.
void stream(const StreamTask& task) {
  const Vec one = Vec::set(1), limit = Vec::set(task.limit), lowest = Vec::set(-task.limit);
  for (std::size_t first = 0; first < task.channels; first += Vec::kCount) {
    const Vec bias = Vec::load(task.bias + first), shift = Vec::load(task.shift + first), half = (one << shift) >> one;
    for (std::size_t p = 0; p < task.pixels; ++p) {
      for (std::size_t t = 0; t < task.steps; ++t) {
        Vec value = bias;
        for (std::size_t s = 0; s < task.source_count; ++s) {
          const TileSource& source = task.sources[s];
          const Vec x = Vec::load(values_of(source, p, t) + first);
          const std::int32_t* multiplier = source.multiplier;
          value = value + (multiplier ? x * Vec::load(multiplier + t * source.multiplier_stride + first) : x);
        }
        value = max(min((value + half) >> shift, limit), lowest);
        std::uint8_t* out = task.out + p * task.out_pixel_stride + t * task.out_step_stride;
        store_used(reinterpret_cast<std::int32_t*>(out) + first, value, task.channels - first);
      }
    }
  }
}

void window(const WindowTask& task) {
  for (std::size_t first = 0; first < task.channels; first += Vec::kCount) {
    Vec result = Vec::set(task.largest ? INT32_MIN : 0);
    for (std::size_t y = 0; y < task.rows; ++y) {
      const std::int32_t* row = task.first + y * task.row_stride + first;
      for (std::size_t x = 0; x < task.columns; ++x) {
        const Vec value = Vec::load(row + x * task.channels);
        result = task.largest ? max(result, value) : result + value;
      }
    }
    store_used(task.out + first, result, task.channels - first);
  }
}
