// Comparing a network with the results stored in its file as test vectors.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "network.hpp"

namespace bitspike::fuzz {

using File = std::vector<std::uint8_t>;

// Ways to choose kernels: by estimate, or one family wherever it is possible.
inline std::vector<std::vector<std::string>> kernel_choices() {
  std::vector<std::vector<std::string>> choices{{}};
  for (const std::string& family : family_names()) choices.push_back({family});
  return choices;
}

// Samples, logits and spike checksums of a file, made by the numpy reference.
struct Expected {
  std::size_t count = 0, classes = 0;
  std::vector<std::uint8_t> samples;
  std::vector<std::int32_t> logits;
  std::vector<std::uint32_t> spikes;
};

inline Expected expected_results(const Graph& graph) {
  Expected e;
  e.count = graph.test_vectors.count;
  e.classes = graph.readout().channels;
  const std::uint8_t* at = graph.test_vectors.body.data;
  const std::size_t sample = graph.sample_size();
  for (std::size_t i = 0; i < e.count; ++i) {
    e.samples.insert(e.samples.end(), at, at + sample);
    at += sample + padding(sample, 4);
    e.logits.resize(e.logits.size() + e.classes);
    std::memcpy(e.logits.data() + i * e.classes, at, e.classes * 4);
    at += e.classes * 4;
    std::uint32_t crc;
    std::memcpy(&crc, at, 4);
    e.spikes.push_back(crc);
    at += 4;
  }
  return e;
}

// Output memory of the largest batch, reused from run to run.
struct Results {
  explicit Results(const Network& network, std::size_t count) {
    const Graph& graph = network.graph();
    logits.resize(count * graph.readout().channels);
    steps.resize(logits.size() * graph.time_steps);
    for (const std::size_t node : network.lif_nodes()) {
      spike_bytes.push_back(graph.time_steps * graph.nodes[node].size());
      spikes.emplace_back(count * spike_bytes.back());
    }
    outputs.logits = logits.data();
    outputs.steps = steps.data();
    for (auto& layer : spikes) outputs.spikes.push_back(layer.data());
  }

  std::vector<std::int32_t> logits, steps;
  std::vector<std::vector<std::uint8_t>> spikes;
  std::vector<std::size_t> spike_bytes;
  Network::Outputs outputs;
};

// Runs the first `n` samples at once; "" or what differs.
inline std::string differs(const Network& network, const Expected& e, std::size_t n, unsigned threads, Results& r) {
  for (auto& value : r.logits) value = 0x5A5A5A5A;  // whatever is not written shows
  for (auto& value : r.steps) value = 0x5A5A5A5A;
  for (auto& layer : r.spikes) std::memset(layer.data(), 0x5A, layer.size());
  network.run(e.samples.data(), n, r.outputs, threads);
  if (std::memcmp(r.logits.data(), e.logits.data(), n * e.classes * 4) != 0) return "logits";
  const std::size_t time_steps = network.graph().time_steps;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t c = 0; c < e.classes; ++c) {
      std::uint32_t sum = 0;
      for (std::size_t t = 0; t < time_steps; ++t) {
        sum += static_cast<std::uint32_t>(r.steps[(i * time_steps + t) * e.classes + c]);
      }
      if (static_cast<std::int32_t>(sum) != e.logits[i * e.classes + c]) return "logits of single steps";
    }
    std::uint32_t crc = 0;
    for (std::size_t layer = 0; layer < r.spikes.size(); ++layer) {
      crc = crc32c({r.spikes[layer].data() + i * r.spike_bytes[layer], r.spike_bytes[layer]}, crc);
    }
    if (crc != e.spikes[i]) return "spikes of sample " + std::to_string(i);
  }
  return "";
}

}  // namespace bitspike::fuzz
