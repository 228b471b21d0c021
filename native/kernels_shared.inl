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

inline Vec lif_source(const LifSource& source, std::size_t pixel, std::size_t step, std::size_t first) {
  const Vec values = Vec::load(source.values + pixel * source.pixel_stride + step * source.step_stride + first);
  return source.multiplier ? values * Vec::load(source.multiplier + first) : values;
}

// See ir.Lif for the equations. The membrane lives in registers over all steps.
void lif(const LifTask& task) {
  const std::size_t bytes = (task.channels + 7) / 8;
  const Vec limit = Vec::set(task.limit), lowest = Vec::set(-task.limit), zero = Vec::set(0), one = Vec::set(1);
  const Vec leak = Vec::set(task.leak_shift);
  for (std::size_t first = 0; first < task.channels; first += kLanes) {
    const std::size_t used = task.channels - first;
    const std::uint32_t valid = used >= kLanes ? 0xFFFFu : (1u << used) - 1;
    const Vec bias = Vec::load(task.bias + first), threshold = Vec::load(task.threshold + first);
    const Vec shift = Vec::load(task.shift + first);
    // rest + (2^k >> 1) might leave 32 bits after a soft reset, so rounding adds the last bit shifted out instead.
    const Vec round_shift = max(shift - one, zero), round_bit = min(shift, one);
    for (std::size_t p = 0; p < task.pixels; ++p) {
      std::uint8_t* out = task.out + p * task.out_pixel_stride + first / 8;
      Vec carry = zero;
      for (std::size_t t = 0; t < task.steps; ++t, out += task.out_step_stride) {
        Vec u = lif_source(task.sources[0], p, t, first) + bias;
        if (task.source_count == 2) u = u + lif_source(task.sources[1], p, t, first);
        if (task.leak_shift != 0) carry = carry - (carry >> leak);
        u = u + carry;
        const auto spike = at_least(u, threshold);
        const std::uint32_t bits = to_bits(spike) & valid;
        out[0] = static_cast<std::uint8_t>(bits);
        if (first / 8 + 1 < bytes) out[1] = static_cast<std::uint8_t>(bits >> 8);
        const Vec rest = task.soft_reset ? u - where(spike, threshold, zero) : where(spike, zero, u);
        const Vec rounded = (rest >> shift) + ((rest >> round_shift) & round_bit);
        carry = max(min(rounded, limit), lowest) << shift;
      }
    }
  }
}
