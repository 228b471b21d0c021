// A sample's way through the nodes: input, neurons, readout.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>

#include "runner.hpp"

namespace bitspike {

void Runner::run(const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps, std::uint8_t* const* spikes,
                 double* seconds) {
  using Clock = std::chrono::steady_clock;
  for (std::size_t i = 0; i < net_.graph_.nodes.size(); ++i) {
    const auto start = seconds ? Clock::now() : Clock::time_point();
    node(i, sample, logits, steps);
    if (seconds) seconds[i] = std::chrono::duration<double>(Clock::now() - start).count();
    if (spikes && net_.graph_.nodes[i].fires()) write_spikes(i, *spikes++);
  }
}

void Runner::node(std::size_t index, const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps) {
  if (net_.inlined(index)) return;
  switch (net_.graph_.nodes[index].op) {
    case Op::Input:
      present(sample);
      break;
    case Op::Conv:
    case Op::Linear:
    case Op::Attention:
    case Op::MatMul:
    case Op::Lif:
    case Op::Stream:
    case Op::Mix:
      compute(index);
      break;
    case Op::OrPool:
      or_pool(index);
      break;
    case Op::SumPool:
      edge(index).wide ? wide_pool(index) : sum_pool(index);
      break;
    case Op::MaxPool:
      wide_pool(index);
      break;
    case Op::Reduce:
      reduce(index);
      break;
    case Op::Gate:
      gate(index);
      break;
    case Op::Concat:
      concatenate(index);
      break;
    case Op::Product:
      product(index);
      break;
    case Op::Add:
      add(index);
      break;
    case Op::Readout:
      readout(logits, steps);
      break;
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
  const auto add = [&](const auto* values) {
    for (std::size_t i = 0; i < pixels * e.channels; ++i) {
      sums[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) + static_cast<std::uint32_t>(values[i]));
    }
  };
  if (e.wide) {
    add(reinterpret_cast<const std::int32_t*>(first));
  } else {
    add(reinterpret_cast<const std::int16_t*>(first));
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
    std::uint32_t total = 0;  // of all features, once for every weight of 2 v + 1
    if (readout.halved) {
      for (std::size_t i = 0; i < readout.features; ++i) total += static_cast<std::uint32_t>(features[i]);
    }
    for (std::size_t m = 0; m < node.channels; ++m) {
      const std::int8_t* weights = readout.weights.data() + m * readout.features;
      const auto sum = static_cast<std::uint32_t>(kernels_.dot_features(weights, features, readout.features));
      const std::uint32_t bias = static_cast<std::uint32_t>(node.params[0][m]) * count;
      out[m] = static_cast<std::int32_t>((readout.halved ? 2 * sum + total : sum) + bias);
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

void Network::run(const std::uint8_t* samples, std::size_t n, const Outputs& outputs, unsigned threads) const {
  if (n == 0) return;
  const std::size_t classes = graph_.readout().channels, steps = graph_.time_steps;
  const std::vector<std::size_t> lifs = outputs.spikes.empty() ? std::vector<std::size_t>() : lif_nodes();
  // `spikes` has a place for every Lif.
  const auto run_samples = [&](Runner& runner, std::uint8_t** spikes, Span range) {
    for (std::size_t i = range.first; i < range.last; ++i) {
      for (std::size_t s = 0; s < lifs.size(); ++s) {
        spikes[s] = outputs.spikes[s] + i * steps * graph_.nodes[lifs[s]].size();
      }
      runner.run(samples + i * graph_.sample_size(), outputs.logits ? outputs.logits + i * classes : nullptr,
                 outputs.steps ? outputs.steps + i * steps * classes : nullptr,
                 outputs.spikes.empty() ? nullptr : spikes);
    }
  };
  const Team team(threads);
  const unsigned size = team.size();
  if (size == 1 || n < size) {
    Runner runner(*this, team);
    std::vector<std::uint8_t*> spikes(lifs.size());
    run_samples(runner, spikes.data(), {0, n});
    return;
  }
  // Whole samples for each thread: nobody waits for anybody.
  const Team alone(1);
  // Allocated here: parts must not throw.
  std::vector<std::unique_ptr<Runner>> runners(size);
  std::vector<std::uint8_t*> spikes(size * lifs.size());
  for (auto& runner : runners) runner = std::make_unique<Runner>(*this, alone);
  team.run(size, [&](unsigned part) {
    run_samples(*runners[part], spikes.data() + part * lifs.size(), split(n, size, part));
  });
}

std::vector<double> Network::profile(const std::uint8_t* sample, unsigned repeats) const {
  const Team alone(1);
  Runner runner(*this, alone);
  std::vector<std::int32_t> logits(graph_.readout().channels);
  std::vector<double> least(graph_.nodes.size(), INFINITY), seconds(graph_.nodes.size());
  for (unsigned i = 0; i < std::max(repeats, 1u); ++i) {
    runner.run(sample, logits.data(), nullptr, nullptr, seconds.data());
    for (std::size_t node = 0; node < least.size(); ++node) least[node] = std::min(least[node], seconds[node]);
  }
  return least;
}

}  // namespace bitspike
