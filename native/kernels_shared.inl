// Loops that every level compiles for itself: included by each kernels_*.cpp after it has defined `Vec`, 16 lanes
// of int32, and `NarrowVec`, lanes for tasks that fit 16 bits (`Vec` itself will do), inside an unnamed namespace so that no level's code can replace another's when linking.
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

// One block of channels. `Shifted`: some membrane of the block drops bits when it is carried over. `Value` is what the
// sources hold.
template <class V, class Value, bool Soft, bool Shifted>
void lif_block(const LifTask& task, std::size_t first) {
  const std::size_t used = task.channels - first < V::kCount ? task.channels - first : V::kCount, bytes = (used + 7) / 8;
  const std::uint32_t valid = used == 32 ? 0xFFFFFFFFu : (1u << used) - 1;
  const bool two_sources = task.source_count == 2;
  const V zero = V::set(0), one = V::set(1), leak = V::set(task.leak_shift);
  const V limit = V::set(task.limit), lowest = V::set(-task.limit);
  const V bias = V::load(task.bias + first), threshold = V::load(task.threshold + first);
  const V shift = V::load(task.shift + first);
  const V half = (one << shift) >> one;
  const auto read = [&](const LifSource& source, const Value* values) {
    return source.multiplier ? V::load(values) * V::load(source.multiplier + first) : V::load(values);
  };
  const LifSource &left = task.sources[0], &right = task.sources[1];
  const auto* left_values = static_cast<const Value*>(left.values) + first;
  const auto* right_values = two_sources ? static_cast<const Value*>(right.values) + first : nullptr;
  for (std::size_t p = 0; p < task.pixels; ++p) {
    const Value* x = left_values + p * left.pixel_stride;
    const Value* y = two_sources ? right_values + p * right.pixel_stride : nullptr;
    std::uint8_t* out = task.out + p * task.out_pixel_stride + first / 8;
    V carry = zero;
    for (std::size_t t = 0; t < task.steps; ++t, out += task.out_step_stride) {
      V u = read(left, x) + bias;
      x += left.step_stride;
      if (two_sources) {
        u = u + read(right, y);
        y += right.step_stride;
      }
      if (task.leak_shift != 0) carry = carry - (carry >> leak);
      u = u + carry;
      const auto spike = at_least(u, threshold);
      std::uint32_t bits = to_bits(spike) & valid;
      if (bytes == 4) {
        std::memcpy(out, &bits, 4);
      } else if (bytes == 2) {
        std::memcpy(out, &bits, 2);
      } else {
        for (std::size_t i = 0; i < bytes; ++i, bits >>= 8) out[i] = static_cast<std::uint8_t>(bits);
      }
      V rest = Soft ? u - where(spike, threshold, zero) : where(spike, zero, u);
      if constexpr (Shifted) rest = (rest + half) >> shift;
      carry = max(min(rest, limit), lowest);
      if constexpr (Shifted) carry = carry << shift;
    }
  }
}

template <class V, class Value>
void lif_blocks(const LifTask& task) {
  for (std::size_t first = 0; first < task.channels; first += V::kCount) {
    std::int32_t shifts = 0;
    for (std::size_t i = 0; i < V::kCount; ++i) shifts |= task.shift[first + i];
    if (task.soft_reset) {
      shifts != 0 ? lif_block<V, Value, true, true>(task, first) : lif_block<V, Value, true, false>(task, first);
    } else {
      shifts != 0 ? lif_block<V, Value, false, true>(task, first) : lif_block<V, Value, false, false>(task, first);
    }
  }
}

// See ir.Lif for the equations. The membrane lives in registers over all steps.
void lif(const LifTask& task) {
  task.narrow ? lif_blocks<NarrowVec, std::int16_t>(task) : lif_blocks<Vec, std::int32_t>(task);
}
