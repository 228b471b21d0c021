// A sample's way through the nodes: input, neurons, readout.
#include <algorithm>
#include <cstring>

#include "runner.hpp"

namespace bitspike {

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
      task.sources[s] = {values, frames * lanes, frames == 1 ? 0 : lanes,
                         multiplier.empty() ? nullptr : multiplier.data()};
    }
    kernels_.lif(task);
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
      const std::int8_t* weights = readout.weights.data() + m * readout.features;
      const std::int32_t sum = kernels_.dot_features(weights, features, readout.features);
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
