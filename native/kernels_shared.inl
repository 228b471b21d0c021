// Loops that every level compiles for itself: included by each kernels_*.cpp after it has defined `Vec`, 16 lanes
// of int32, inside an unnamed namespace so that no level's code can replace another's when linking.
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

// One block of 16 channels. `Shifted`: some membrane of the block drops bits when it is carried over.
template <bool Soft, bool Shifted>
void lif_block(const LifTask& task, std::size_t first) {
  const std::size_t used = task.channels - first;
  const std::uint32_t valid = used >= kLanes ? 0xFFFFu : (1u << used) - 1;
  const bool second_byte = used > 8, two_sources = task.source_count == 2;
  const Vec zero = Vec::set(0), one = Vec::set(1), leak = Vec::set(task.leak_shift);
  const Vec limit = Vec::set(task.limit), lowest = Vec::set(-task.limit);
  const Vec bias = Vec::load(task.bias + first), threshold = Vec::load(task.threshold + first);
  const Vec shift = Vec::load(task.shift + first);
  const Vec half = (one << shift) >> one, round_shift = max(shift - one, zero), round_bit = min(shift, one);
  const auto read = [&](const LifSource& source, const std::int32_t* values) {
    return source.multiplier ? Vec::load(values) * Vec::load(source.multiplier + first) : Vec::load(values);
  };
  const LifSource &left = task.sources[0], &right = task.sources[1];
  for (std::size_t p = 0; p < task.pixels; ++p) {
    const std::int32_t* x = left.values + p * left.pixel_stride + first;
    const std::int32_t* y = two_sources ? right.values + p * right.pixel_stride + first : nullptr;
    std::uint8_t* out = task.out + p * task.out_pixel_stride + first / 8;
    Vec carry = zero;
    for (std::size_t t = 0; t < task.steps; ++t, out += task.out_step_stride) {
      Vec u = read(left, x) + bias;
      x += left.step_stride;
      if (two_sources) {
        u = u + read(right, y);
        y += right.step_stride;
      }
      if (task.leak_shift != 0) carry = carry - (carry >> leak);
      u = u + carry;
      const auto spike = at_least(u, threshold);
      const std::uint32_t bits = to_bits(spike) & valid;
      out[0] = static_cast<std::uint8_t>(bits);
      if (second_byte) out[1] = static_cast<std::uint8_t>(bits >> 8);
      Vec rest = Soft ? u - where(spike, threshold, zero) : where(spike, zero, u);
      if constexpr (Shifted && Soft) {
        // rest + half might leave 32 bits here, so rounding adds the last bit that is shifted out instead.
        rest = (rest >> shift) + ((rest >> round_shift) & round_bit);
      } else if constexpr (Shifted) {
        rest = (rest + half) >> shift;
      }
      carry = max(min(rest, limit), lowest);
      if constexpr (Shifted) carry = carry << shift;
    }
  }
}

// See ir.Lif for the equations. The membrane lives in registers over all steps.
void lif(const LifTask& task) {
  for (std::size_t first = 0; first < task.channels; first += kLanes) {
    std::int32_t shifts = 0;
    for (std::size_t i = 0; i < kLanes; ++i) shifts |= task.shift[first + i];
    if (task.soft_reset) {
      shifts != 0 ? lif_block<true, true>(task, first) : lif_block<true, false>(task, first);
    } else {
      shifts != 0 ? lif_block<false, true>(task, first) : lif_block<false, false>(task, first);
    }
  }
}
