// Loops of the event kernels, compiled by every level for itself. The level has defined, inside an unnamed namespace:
// `append_spikes`, which lists the set bits of a word, `append_offsets`, and `Sum<V>`, 64 V lanes.

void list_spikes(const EventPlan& plan, const SpikeBits& edge, const SpikeLists& lists, std::size_t first,
                 std::size_t last) {
  for (std::size_t line = first; line < last; ++line) {
    const std::size_t frame = line / plan.height, row = line % plan.height;
    const std::uint8_t* pixel = edge.at(frame, row * plan.width);
    std::uint32_t* starts = lists.starts + line * (plan.width + 1);
    std::uint16_t* const positions = lists.positions + line * plan.line_capacity();
    std::uint16_t* end = positions;
    for (std::size_t x = 0; x < plan.width; ++x, pixel += edge.pixel_bytes) {
      starts[x] = static_cast<std::uint32_t>(end - positions);
      for (std::size_t c = 0; c < plan.channels; c += 32) {
        std::uint32_t bits;
        std::memcpy(&bits, pixel + c / 8, sizeof bits);
        if (plan.channels - c < 32) bits &= (1u << (plan.channels - c)) - 1;
        end = append_spikes(bits, static_cast<std::uint16_t>(x * plan.channels + c), end);
      }
    }
    starts[plan.width] = static_cast<std::uint32_t>(end - positions);
  }
}

// Offsets of the weight rows of one output pixel at one frame, filled up to a multiple of 4 with the zero row.
// Returns how many.
inline std::size_t list_rows(const EventTask& task, std::size_t pixel, std::size_t frame, std::uint32_t* list) {
  const EventPlan& plan = task.plan;
  const auto height = static_cast<std::ptrdiff_t>(plan.height), width = static_cast<std::ptrdiff_t>(plan.width);
  const auto kernel_height = static_cast<std::ptrdiff_t>(plan.kernel_height);
  const auto kernel_width = static_cast<std::ptrdiff_t>(plan.kernel_width);
  const auto padding = static_cast<std::ptrdiff_t>(plan.padding);
  const std::ptrdiff_t top = static_cast<std::ptrdiff_t>(pixel / plan.out_width * plan.stride) - padding;
  const std::ptrdiff_t left = static_cast<std::ptrdiff_t>(pixel % plan.out_width * plan.stride) - padding;
  const std::ptrdiff_t begin = left < 0 ? 0 : left;
  const std::ptrdiff_t end = left + kernel_width < width ? left + kernel_width : width;
  std::uint32_t* next = list;
  for (std::ptrdiff_t y = top < 0 ? -top : 0; y < kernel_height && top + y < height; ++y) {
    const std::size_t line = frame * plan.height + static_cast<std::size_t>(top + y);
    const std::uint32_t* starts = task.lists.starts + line * (plan.width + 1);
    const std::uint16_t* positions = task.lists.positions + line * plan.line_capacity();
    // Position p of the line is row p + (y * kernel width - left) * channels.
    const std::ptrdiff_t shift = (y * kernel_width - left) * static_cast<std::ptrdiff_t>(plan.channels);
    const std::size_t count = starts[end] - starts[begin];
    next = append_offsets(positions + starts[begin], count, static_cast<std::uint32_t>(shift), next);
  }
  const auto zero = static_cast<std::uint32_t>((plan.rows() - 1) * kEventLanes);
  for (int i = 0; i < 3; ++i) next[i] = zero;
  return (static_cast<std::size_t>(next - list) + 3) / 4 * 4;
}

// Sums `count` rows (a multiple of 4) of 64 V lanes and stores the first `outputs` of them.
template <int V>
void sum_rows(const EventTask& task, const std::int8_t* weights, const std::uint32_t* list, std::size_t count,
              void* out, std::size_t outputs) {
  const std::size_t in_bytes = INT8_MAX / task.plan.largest, in_shorts = INT16_MAX / task.plan.largest / 4 * 4;
  auto* ints = static_cast<std::int32_t*>(out);
  Sum<V> sum = Sum<V>::zero();
  std::size_t room = task.narrow ? SIZE_MAX : in_shorts;  // rows until 16 bits may overflow
  bool stored = false;
  const std::uint32_t* const end = list + count;
  const auto row = [&](std::size_t i) { return weights + V * std::size_t{list[i]}; };
  const std::size_t run = in_bytes / 4 * 4 < room ? in_bytes / 4 * 4 : room;  // 0: weights too large for bytes
  while (list != end) {
    const auto left = static_cast<std::size_t>(end - list);
    if (room < (run == 0 ? 4 : run)) {
      sum.add_to(ints, outputs, stored);
      sum = Sum<V>::zero();
      stored = true;
      room = in_shorts;
    }
    if (run == 0) {
      const std::uint32_t* stop = list + (left < room ? left : room);
      if (!task.narrow) room -= static_cast<std::size_t>(stop - list);
      for (; list != stop; list += 4) {
        for (std::size_t i = 0; i < 4; ++i) sum.add_wide(row(i));  // written out, these would wait for registers
      }
      continue;
    }
    const std::uint32_t* stop = list + (left < run ? left : run);
    if (!task.narrow) room -= static_cast<std::size_t>(stop - list);
    sum.begin();
    for (; list != stop; list += 4) {
      sum.add(row(0));
      sum.add(row(1));
      sum.add(row(2));
      sum.add(row(3));
    }
    sum.widen();
  }
  task.narrow ? sum.store(static_cast<std::int16_t*>(out), outputs) : sum.add_to(ints, outputs, stored);
}

void event_rows(const EventTask& task, std::size_t first, std::size_t pixels, std::size_t first_block,
                std::size_t last_block, const EventOutput& out) {
  const EventPlan& plan = task.plan;
  const std::size_t row_count = pixels * plan.frames, batch = plan.batch(), size = task.narrow ? 2 : 4;
  const std::size_t outputs = (plan.outputs + 15) / 16 * 16;
  std::size_t counts[64];
  for (std::size_t begin = 0; begin < row_count; begin += batch) {
    const std::size_t rows = row_count - begin < batch ? row_count - begin : batch;
    std::uint32_t* list = task.local;
    for (std::size_t r = 0; r < rows; ++r) {
      counts[r] = list_rows(task, first + (begin + r) / plan.frames, (begin + r) % plan.frames, list);
      list += counts[r];
    }
    for (std::size_t block = first_block; block < last_block; ++block) {
      const std::size_t lane = block * 2 * kEventLanes;
      const std::int8_t* weights = task.weights + lane * plan.rows();
      const auto sum = plan.lanes() - lane > kEventLanes ? sum_rows<2> : sum_rows<1>;
      list = task.local;
      for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t pixel = (begin + r) / plan.frames, frame = (begin + r) % plan.frames;
        const std::size_t at = pixel * out.pixel_stride + frame * out.step_stride + lane;
        sum(task, weights, list, counts[r], static_cast<std::uint8_t*>(out.data) + at * size, outputs - lane);
        list += counts[r];
      }
    }
  }
}
