// Execution of one sample. Everything written lies in the scratch memory of the call.
#include <algorithm>
#include <cstring>
#include <utility>

#include "network.hpp"

namespace bitspike {
namespace {

// Copies whole 8-byte words, so up to 7 bytes more than asked for: both sides have slack, and callers write
// what follows afterwards.
inline void copy_fast(std::uint8_t* to, const std::uint8_t* from, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 8) std::memcpy(to + i, from + i, 8);
}

// Where one output pixel of a pool looks, clipped to the source.
struct Window {
  std::size_t step, pixel;
  std::size_t top, bottom, left, right;
};

}  // namespace

class Runner {
 public:
  explicit Runner(const Network& network) : net_(network), kernels_(network.kernels_), memory_(network.take_scratch()) {}
  ~Runner() { net_.return_scratch(std::move(memory_)); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // `spikes` is null, or has one pointer per Lif.
  void run(const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps, std::uint8_t* const* spikes);

 private:
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }
  const Edge& edge(std::size_t node) const { return net_.edges_[node]; }
  const std::uint8_t* pixel(const Edge& e, std::size_t step, std::size_t index) const {
    return at<std::uint8_t>(e.offset) + step * e.step_bytes() + index * e.pixel_bytes;
  }
  // sums[channel] += the edge's values at one pixel.
  void add_pixels(const Edge& e, const std::uint8_t* first, std::size_t pixels, std::int32_t* sums) const;

  void present(const std::uint8_t* sample);
  void lif(std::size_t index);
  void current(const Projection& p, std::size_t first, std::size_t pixels, std::int32_t* out, std::size_t lanes);
  void gather(const Projection& p, std::size_t out_pixel, std::uint8_t* rows) const;
  void grouped(const Projection& p, std::size_t rows, std::int32_t* out, std::size_t lanes);
  void or_pool(std::size_t index);
  void sum_pool(std::size_t index);
  void add(std::size_t index);
  void readout(std::int32_t* logits, std::int32_t* steps);
  void write_spikes(std::size_t index, std::uint8_t* out) const;
  template <class F>
  void each_window(std::size_t index, F visit) const;
  void store_counts(const Edge& e, std::size_t step, std::size_t index, const std::int32_t* sums);

  const Network& net_;
  const Kernels& kernels_;
  AlignedBuffer memory_;
};

void Runner::run(const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps, std::uint8_t* const* spikes) {
  for (std::size_t i = 0; i < net_.graph_.nodes.size(); ++i) {
    switch (net_.graph_.nodes[i].op) {
      case Op::Input:
        present(sample);
        break;
      case Op::Conv:
      case Op::Linear:  // computed by the Lif that reads it
        break;
      case Op::Lif:
        lif(i);
        if (spikes) write_spikes(i, *spikes++);
        break;
      case Op::OrPool:
        or_pool(i);
        break;
      case Op::SumPool:
        sum_pool(i);
        break;
      case Op::Add:
        add(i);
        break;
      case Op::Readout:
        readout(logits, steps);
        break;
    }
  }
}

// (frames, C, H, W) bytes to [frames][pixel][channel] values minus their zero points.
void Runner::present(const std::uint8_t* sample) {
  const Edge& e = edge(0);
  const auto& zero = net_.graph_.input().params[0];
  auto* out = at<std::int16_t>(e.offset);
  for (std::size_t t = 0; t < e.frames; ++t, out += e.pixels() * e.channels) {
    for (std::size_t c = 0; c < e.channels; ++c, sample += e.pixels()) {
      for (std::size_t p = 0; p < e.pixels(); ++p) {
        out[p * e.channels + c] = static_cast<std::int16_t>(sample[p] - zero[c]);
      }
    }
  }
}

void Runner::add_pixels(const Edge& e, const std::uint8_t* first, std::size_t pixels, std::int32_t* sums) const {
  if (e.bits) {
    kernels_.add_bits(first, pixels * e.pixel_bytes, sums);
    return;
  }
  const auto* values = reinterpret_cast<const std::int16_t*>(first);
  for (std::size_t i = 0; i < pixels * e.channels; ++i) {
    sums[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) + static_cast<std::uint32_t>(values[i]));
  }
}

void Runner::lif(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const LifParams& params = net_.lifs_[index];
  const Edge& out = edge(index);
  const std::size_t steps = out.frames, lanes = round_up(node.channels, kLanes);
  const std::size_t tile = net_.tile_pixels(node);

  LifTask task{};
  task.source_count = node.source_count;
  task.bias = params.bias.data();
  task.threshold = params.threshold.data();
  task.shift = params.shift.data();
  task.limit = (1 << (node.bits - 1)) - 1;
  task.leak_shift = static_cast<std::int32_t>(node.option);
  task.soft_reset = node.soft_reset;
  task.steps = steps;
  task.channels = node.channels;
  task.out_step_stride = out.step_bytes();
  task.out_pixel_stride = out.pixel_bytes;
  for (std::size_t first = 0; first < out.pixels(); first += tile) {
    task.pixels = std::min(tile, out.pixels() - first);
    task.out = at<std::uint8_t>(out.offset) + first * out.pixel_bytes;
    for (std::size_t s = 0; s < task.source_count; ++s) {
      const std::size_t source = node.sources[s];
      auto* values = at<std::int32_t>(net_.scratch_.currents[s]);
      std::size_t frames = steps;
      if (net_.graph_.nodes[source].kind == Kind::Current) {
        const Projection& p = net_.projections_[source];
        frames = edge(p.source).frames;
        current(p, first, task.pixels, values, lanes);
      } else {
        std::memset(values, 0, task.pixels * steps * lanes * sizeof *values);
        for (std::size_t row = 0; row < task.pixels * steps; ++row) {
          add_pixels(edge(source), pixel(edge(source), row % steps, first + row / steps), 1, values + row * lanes);
        }
      }
      const auto& multiplier = params.multipliers[s];
      task.sources[s] = {values, frames * lanes, frames == 1 ? 0 : lanes, multiplier.empty() ? nullptr : multiplier.data()};
    }
    kernels_.lif(task);
  }
}

// Currents [pixel][frame][lanes] of a tile of output pixels.
void Runner::current(const Projection& p, std::size_t first, std::size_t pixels, std::int32_t* out, std::size_t lanes) {
  const std::size_t frames = edge(p.source).frames, row_count = pixels * frames;
  auto* rows = at<std::uint32_t>(net_.scratch_.rows);
  for (std::size_t i = 0; i < pixels; ++i) {
    gather(p, first + i, reinterpret_cast<std::uint8_t*>(rows + i * frames * p.row_words));
  }
  if (p.groups > 1) {
    grouped(p, row_count, out, lanes);
    return;
  }
  auto* ones = at<std::int32_t>(net_.scratch_.ones);
  if (p.one_bit) kernels_.count_ones(rows, row_count, p.words, ones);
  DotTask task{p.group_weights(0), p.planes, rows, row_count, p.words, ones, out, lanes};
  const auto dot = p.path == Projection::Path::Bits ? kernels_.dot_bits : kernels_.dot_values;
  for (std::size_t block = 0; block < p.blocks; ++block) {
    dot(task);
    task.weights += p.block_words();
    task.out += kLanes;
  }
}

// One row per frame: what an output pixel sees, [tap][pixel bytes], zero where the window leaves the source.
void Runner::gather(const Projection& p, std::size_t out_pixel, std::uint8_t* rows) const {
  const Edge& e = edge(p.source);
  const auto height = static_cast<std::int64_t>(e.height), width = static_cast<std::int64_t>(e.width);
  const auto kernel_height = static_cast<std::int64_t>(p.kernel_height);
  const auto kernel_width = static_cast<std::int64_t>(p.kernel_width);
  const auto padding = static_cast<std::int64_t>(p.padding);
  const std::int64_t top = static_cast<std::int64_t>(out_pixel / p.out_width * p.stride) - padding;
  const std::int64_t left = static_cast<std::int64_t>(out_pixel % p.out_width * p.stride) - padding;
  // The part of the window that lies on the source.
  const std::int64_t first_line = std::max<std::int64_t>(0, -top), end_line = std::min(kernel_height, height - top);
  const std::int64_t first_tap = std::max<std::int64_t>(0, -left), end_tap = std::min(kernel_width, width - left);
  const bool inside = end_line - first_line == kernel_height && end_tap - first_tap == kernel_width;

  const std::size_t line = p.kernel_width * e.pixel_bytes, pitch = e.width * e.pixel_bytes;
  const auto lines = static_cast<std::size_t>(end_line - first_line);
  const std::size_t bytes = static_cast<std::size_t>(end_tap - first_tap) * e.pixel_bytes;
  const std::size_t to = static_cast<std::size_t>(first_line) * line + static_cast<std::size_t>(first_tap) * e.pixel_bytes;
  const std::uint8_t* from = pixel(e, 0, static_cast<std::size_t>((top + first_line) * width + left + first_tap));
  for (std::size_t frame = 0; frame < e.frames; ++frame, rows += p.row_words * 4, from += e.step_bytes()) {
    if (inside && line == pitch) {
      copy_fast(rows, from, p.row_bytes);
    } else if (inside) {
      for (std::size_t y = 0; y < lines; ++y) copy_fast(rows + y * line, from + y * pitch, line);
    } else {
      std::memset(rows, 0, p.row_bytes);
      for (std::size_t y = 0; y < lines; ++y) std::memcpy(rows + to + y * line, from + y * pitch, bytes);
    }
    std::memset(rows + p.row_bytes, 0, p.row_words * 4 - p.row_bytes);
  }
}

// Grouped convolutions work on 16-bit values, spikes included.
void Runner::grouped(const Projection& p, std::size_t row_count, std::int32_t* out, std::size_t lanes) {
  const Edge& e = edge(p.source);
  const std::size_t taps = p.taps(), stride = e.lanes();
  auto* group_rows = at<std::uint32_t>(net_.scratch_.group_rows);
  auto* group_out = at<std::int32_t>(net_.scratch_.group_out);
  const auto values_of = [&](std::size_t r) -> const std::int16_t* {
    const auto* row = at<std::uint8_t>(net_.scratch_.rows) + r * p.row_words * 4;
    if (!e.bits) return reinterpret_cast<const std::int16_t*>(row);
    auto* expanded = at<std::int16_t>(net_.scratch_.expanded);
    for (std::size_t i = 0; i < p.row_bytes; ++i) {
      for (std::size_t bit = 0; bit < 8; ++bit) expanded[8 * i + bit] = static_cast<std::int16_t>((row[i] >> bit) & 1);
    }
    return expanded;
  };
  if (p.path == Projection::Path::Depthwise) {
    const auto* weights = reinterpret_cast<const std::int16_t*>(p.weights.data());
    for (std::size_t r = 0; r < row_count; ++r) {
      kernels_.depthwise(weights, values_of(r), taps, stride, lanes, out + r * lanes);
    }
    return;
  }
  const std::size_t slice = p.group_inputs * sizeof(std::int16_t), group_lanes = p.blocks * kLanes;
  for (std::size_t group = 0; group < p.groups; ++group) {
    for (std::size_t r = 0; r < row_count; ++r) {
      const std::int16_t* values = values_of(r) + group * p.group_inputs;
      auto* to = reinterpret_cast<std::int16_t*>(group_rows + r * p.words);
      to[2 * p.words - 1] = 0;
      for (std::size_t tap = 0; tap < taps; ++tap) {
        std::memcpy(to + tap * p.group_inputs, values + tap * stride, slice);
      }
    }
    DotTask task{p.group_weights(group), 1, group_rows, row_count, p.words, nullptr, group_out, group_lanes};
    for (std::size_t block = 0; block < p.blocks; ++block) {
      kernels_.dot_values(task);
      task.weights += p.block_words();
      task.out += kLanes;
    }
    for (std::size_t r = 0; r < row_count; ++r) {
      std::memcpy(out + r * lanes + group * p.group_outputs, group_out + r * group_lanes, p.group_outputs * sizeof *out);
    }
  }
}

// Calls visit(window) for every output pixel of a pool.
template <class F>
void Runner::each_window(std::size_t index, F visit) const {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]);
  const auto clip = [&](std::size_t position, std::size_t size, std::size_t& begin, std::size_t& end) {
    const std::int64_t start = static_cast<std::int64_t>(position * node.stride) - node.padding;
    begin = static_cast<std::size_t>(std::max<std::int64_t>(start, 0));
    end = static_cast<std::size_t>(std::min<std::int64_t>(start + node.kernel_height, static_cast<std::int64_t>(size)));
  };
  Window window{};
  for (window.step = 0; window.step < out.frames; ++window.step) {
    window.pixel = 0;
    for (std::size_t y = 0; y < out.height; ++y) {
      clip(y, in.height, window.top, window.bottom);
      for (std::size_t x = 0; x < out.width; ++x, ++window.pixel) {
        clip(x, in.width, window.left, window.right);
        visit(window);
      }
    }
  }
}

void Runner::or_pool(std::size_t index) {
  const Edge &out = edge(index), &in = edge(net_.graph_.nodes[index].sources[0]);
  const std::size_t bytes = out.pixel_bytes, pitch = in.width * bytes;
  auto* result = at<std::uint8_t>(out.offset);  // windows come in the order of the output
  each_window(index, [&](const Window& w) {
    const std::uint8_t* source = pixel(in, w.step, w.top * in.width + w.left);
    // Whole 8-byte words, as in copy_fast: the next output pixel overwrites what is written too far.
    for (std::size_t i = 0; i < bytes; i += 8) {
      std::uint64_t bits = 0, more;
      for (std::size_t y = 0; y < w.bottom - w.top; ++y) {
        for (std::size_t x = 0; x < w.right - w.left; ++x) {
          std::memcpy(&more, source + y * pitch + x * bytes + i, sizeof more);
          bits |= more;
        }
      }
      std::memcpy(result + i, &bits, sizeof bits);
    }
    result += bytes;
  });
}

void Runner::store_counts(const Edge& e, std::size_t step, std::size_t index, const std::int32_t* sums) {
  auto* out = at<std::int16_t>(e.offset) + (step * e.pixels() + index) * e.channels;
  for (std::size_t c = 0; c < e.channels; ++c) out[c] = static_cast<std::int16_t>(sums[c]);
}

void Runner::sum_pool(std::size_t index) {
  const Edge &out = edge(index), &in = edge(net_.graph_.nodes[index].sources[0]);
  auto* sums = at<std::int32_t>(net_.scratch_.sums);
  each_window(index, [&](const Window& w) {
    std::memset(sums, 0, round_up(out.channels, kLanes) * sizeof *sums);
    for (std::size_t y = w.top; y < w.bottom; ++y) {
      for (std::size_t x = w.left; x < w.right; ++x) add_pixels(in, pixel(in, w.step, y * in.width + x), 1, sums);
    }
    store_counts(out, w.step, w.pixel, sums);
  });
}

void Runner::add(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge& out = edge(index);
  auto* sums = at<std::int32_t>(net_.scratch_.sums);
  for (std::size_t t = 0; t < out.frames; ++t) {
    for (std::size_t p = 0; p < out.pixels(); ++p) {
      std::memset(sums, 0, round_up(out.channels, kLanes) * sizeof *sums);
      for (const std::uint32_t source : node.sources) add_pixels(edge(source), pixel(edge(source), t, p), 1, sums);
      store_counts(out, t, p, sums);
    }
  }
}

void Runner::readout(std::int32_t* logits, std::int32_t* steps) {
  const Node& node = net_.graph_.readout();
  const Edge& in = edge(node.sources[0]);
  const ReadoutWeights& readout = net_.readout_;
  auto* features = at<std::int32_t>(net_.scratch_.features);
  const auto clear = [&] { std::memset(features, 0, readout.features * sizeof *features); };
  const auto collect = [&](std::size_t t) {
    if (node.option == 0) {
      add_pixels(in, pixel(in, t, 0), in.pixels(), features);
    } else {
      for (std::size_t p = 0; p < in.pixels(); ++p) add_pixels(in, pixel(in, t, p), 1, features);
    }
  };
  const auto write = [&](std::int32_t* out, std::uint32_t count) {
    for (std::size_t m = 0; m < node.channels; ++m) {
      const std::int32_t sum = kernels_.dot_features(readout.weights.data() + m * readout.features, features, readout.features);
      const std::uint32_t bias = static_cast<std::uint32_t>(node.params[0][m]) * count;
      out[m] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + bias);
    }
  };
  if (logits) {
    clear();
    for (std::size_t t = 0; t < in.frames; ++t) collect(t);
    write(logits, net_.graph_.time_steps);
  }
  if (steps) {
    for (std::size_t t = 0; t < in.frames; ++t) {
      clear();
      collect(t);
      write(steps + t * node.channels, 1);
    }
  }
}

// Channel bits to (T, C, H, W) bytes.
void Runner::write_spikes(std::size_t index, std::uint8_t* out) const {
  const Edge& e = edge(index);
  for (std::size_t t = 0; t < e.frames; ++t, out += e.channels * e.pixels()) {
    for (std::size_t p = 0; p < e.pixels(); ++p) {
      const std::uint8_t* bits = pixel(e, t, p);
      for (std::size_t c = 0; c < e.channels; ++c) out[c * e.pixels() + p] = (bits[c / 8] >> (c % 8)) & 1;
    }
  }
}

void Network::run(const std::uint8_t* samples, std::size_t n, const Outputs& outputs) const {
  if (n == 0) return;
  Runner runner(*this);
  const std::size_t classes = graph_.readout().channels;
  const std::vector<std::size_t> lifs = outputs.spikes.empty() ? std::vector<std::size_t>() : lif_nodes();
  std::vector<std::uint8_t*> spikes = outputs.spikes;
  for (std::size_t i = 0; i < n; ++i) {
    runner.run(samples + i * graph_.sample_size(), outputs.logits ? outputs.logits + i * classes : nullptr,
               outputs.steps ? outputs.steps + i * graph_.time_steps * classes : nullptr,
               spikes.empty() ? nullptr : spikes.data());
    for (std::size_t s = 0; s < lifs.size(); ++s) spikes[s] += graph_.time_steps * graph_.nodes[lifs[s]].size();
  }
}

}  // namespace bitspike
