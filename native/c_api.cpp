// The C interface. Nothing is thrown across it: every failure becomes a status and a sentence of this thread.
#include "bitspike.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "network.hpp"
#include "pool.hpp"

struct bitspike_network {
  bitspike_network(std::vector<std::uint8_t> file, const bitspike::Kernels& kernels, std::uint64_t max_memory)
      : network(std::move(file), kernels, max_memory) {}

  bitspike::Network network;
};

namespace {

using bitspike::Network;
using bitspike::Node;
using bitspike::Op;

constexpr std::uint64_t kDefaultMemory = std::uint64_t{1} << 30;
constexpr std::size_t kErrorSize = 512;
thread_local char error_text[kErrorSize];  // fixed, so that running out of memory can be reported

bitspike_status report(bitspike_status status, const char* text) {
  std::snprintf(error_text, kErrorSize, "%s", text);
  return status;
}

struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The status of the exception that is being handled, its text reported.
bitspike_status caught(bitspike_status when_refused) noexcept {
  try {
    throw;
  } catch (const bitspike::FormatError& error) {
    return report(when_refused, error.what());
  } catch (const FileError& error) {
    return report(BITSPIKE_ERROR_FILE, error.what());
  } catch (const std::invalid_argument& error) {
    return report(BITSPIKE_ERROR_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return report(BITSPIKE_ERROR_MEMORY, "the system has no more memory");
  } catch (const std::exception& error) {
    return report(BITSPIKE_ERROR_INTERNAL, error.what());
  } catch (...) {
    return report(BITSPIKE_ERROR_INTERNAL, "unknown failure");
  }
}

template <class Action>
bitspike_status guarded(Action action, bitspike_status when_refused = BITSPIKE_ERROR_FORMAT) noexcept {
  try {
    action();
    return BITSPIKE_OK;
  } catch (...) {
    return caught(when_refused);
  }
}

void require(bool condition, const char* text) {
  if (!condition) throw std::invalid_argument(text);
}

std::uint64_t memory_limit(std::uint64_t max_memory) { return max_memory ? max_memory : kDefaultMemory; }

void make(std::vector<std::uint8_t> file, const char* level, std::uint64_t max_memory, bitspike_network** network) {
  const auto& kernels = bitspike::select_level(level ? level : "");
  *network = new bitspike_network(std::move(file), kernels, memory_limit(max_memory));
}

// Read piece by piece: the length of a pipe or device is not known before.
std::vector<std::uint8_t> read_file(const char* path, std::uint64_t limit) {
  constexpr std::size_t kPiece = 1 << 16;
  const auto close = [](std::FILE* file) { std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path, "rb"), close);
  const auto unreadable = [path] {
    std::string message;
    bitspike::append(message, path, ": cannot be read (", std::strerror(errno), ")");
    return FileError(message);
  };
  if (!file) throw unreadable();
  std::vector<std::uint8_t> bytes;
  if (std::fseek(file.get(), 0, SEEK_END) == 0) {  // a hint that saves copies
    const long size = std::ftell(file.get());
    if (size > 0 && static_cast<std::uint64_t>(size) <= limit) bytes.reserve(static_cast<std::size_t>(size) + kPiece);
    std::rewind(file.get());
  }
  for (;;) {
    const std::size_t size = bytes.size();
    bytes.resize(size + kPiece);
    const std::size_t count = std::fread(bytes.data() + size, 1, kPiece, file.get());
    bytes.resize(size + count);
    if (bytes.size() > limit) {
      bitspike::fail(path, ": the file exceeds the memory limit of ", limit, " bytes");
    }
    if (count < kPiece) break;
  }
  if (std::ferror(file.get())) throw unreadable();
  return bytes;
}

void run(const bitspike_network* network, const std::uint8_t* samples, std::size_t n, const Network::Outputs& outputs,
         unsigned threads) {
  network->network.run(samples, n, outputs, threads ? threads : bitspike::usable_cpus());
}

void check_run(const bitspike_network* network, const void* samples, std::size_t n, const void* out) {
  require(network, "network is NULL");
  require(n == 0 || samples, "samples is NULL");
  require(n == 0 || out, "the output is NULL");
}

std::uint64_t spike_bytes(const Network& network, std::size_t node) {
  return network.graph().time_steps * network.graph().nodes[node].size();
}

std::string describe(const bitspike_network& handle) {
  const Network& network = handle.network;
  const auto& graph = network.graph();
  std::string text;
  const auto add = [&text](const auto&... parts) { bitspike::append(text, parts...); };
  add("T ", graph.time_steps, ", ", graph.nodes.size(), " nodes, level ", network.kernels().name, ", file ",
       network.artifact_bytes(), " bytes, memory ", network.memory_bytes(), " bytes, ", graph.test_vectors.count,
       " test vectors\n");
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& n = graph.nodes[i];
    add(i, " ", bitspike::op_name(n.op));
    for (std::uint32_t s = 0; s < n.source_count; ++s) add(s ? ", " : " of ", n.sources[s]);
    add(": ", n.channels, "x", n.height, "x", n.width);
    if (n.kernel_height) add(", kernel ", n.kernel_height, "x", n.kernel_width, ", stride ", n.stride);
    if (n.padding) add(", padding ", n.padding);
    if (n.groups > 1) add(", ", n.groups, n.op == Op::Conv ? " groups" : " heads");
    if (n.weighted()) add(", ", n.bits, n.odd ? "-bit odd weights" : "-bit weights");
    if (const char* family = bitspike::family_name(network.family(i)); *family) add(", by ", family);
    if (n.op == Op::Lif) {
      add(", ", n.bits, "-bit membrane");
      n.option ? add(", leak 1/2^", n.option) : add(", no leak");
      if (n.soft_reset) add(", soft reset");
    }
    if (n.op == Op::Stream) add(", ", n.bits, "-bit numbers");
    if (n.op == Op::Input) add(", ", n.option, n.option == 1 ? " frame" : " frames");
    text += '\n';
  }
  return text;
}

}  // namespace

extern "C" {

const char* bitspike_version(void) { return BITSPIKE_VERSION; }

const char* bitspike_error(void) { return error_text; }

const char* bitspike_level_name(unsigned index) {
  const char* name = nullptr;
  guarded([&] {
    const auto levels = bitspike::available_levels();
    if (index < levels.size()) name = levels[index]->name;
  });
  return name;
}

unsigned bitspike_cpus(void) { return bitspike::usable_cpus(); }

bitspike_status bitspike_load(const void* data, size_t size, const char* level, uint64_t max_memory,
                              bitspike_network** network) {
  if (network) *network = nullptr;
  return guarded([&] {
    require(network, "network is NULL");
    require(data || size == 0, "data is NULL");
    if (size > memory_limit(max_memory)) {
      bitspike::fail(size, " bytes exceed the memory limit of ", memory_limit(max_memory), " bytes");
    }
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    make(std::vector<std::uint8_t>(bytes, bytes + size), level, max_memory, network);
  });
}

bitspike_status bitspike_load_file(const char* path, const char* level, uint64_t max_memory,
                                   bitspike_network** network) {
  if (network) *network = nullptr;
  return guarded([&] {
    require(network, "network is NULL");
    require(path, "path is NULL");
    auto bytes = read_file(path, memory_limit(max_memory));
    try {
      make(std::move(bytes), level, max_memory, network);
    } catch (const bitspike::FormatError& error) {
      bitspike::fail(path, ": ", error.what());
    }
  });
}

void bitspike_free(bitspike_network* network) { delete network; }

void bitspike_get_shape(const bitspike_network* network, bitspike_shape* shape) {
  if (!shape) return;
  *shape = bitspike_shape{};
  if (!network) return;
  const auto& graph = network->network.graph();
  shape->time_steps = graph.time_steps;
  shape->frames = graph.input().option;
  shape->channels = graph.input().channels;
  shape->height = graph.input().height;
  shape->width = graph.input().width;
  shape->classes = graph.readout().channels;
  for (const Node& node : graph.nodes) shape->spike_layers += node.fires();
  shape->test_vectors = graph.test_vectors.count;
  shape->sample_bytes = graph.sample_size();
  shape->file_bytes = network->network.artifact_bytes();
  shape->memory_bytes = network->network.memory_bytes();
}

const char* bitspike_level(const bitspike_network* network) {
  return network ? network->network.kernels().name : nullptr;
}

size_t bitspike_describe(const bitspike_network* network, char* text, size_t size) {
  if (text && size) text[0] = '\0';
  std::size_t needed = 0;
  guarded([&] {
    require(network, "network is NULL");
    const std::string all = describe(*network);
    needed = all.size() + 1;
    if (!text || size == 0) return;
    const std::size_t count = std::min(size - 1, all.size());
    std::memcpy(text, all.data(), count);
    text[count] = '\0';
  });
  return needed;
}

bitspike_status bitspike_run(const bitspike_network* network, const uint8_t* samples, size_t n, int32_t* logits,
                             unsigned threads) {
  return guarded([&] {
    check_run(network, samples, n, logits);
    Network::Outputs outputs;
    outputs.logits = logits;
    run(network, samples, n, outputs, threads);
  });
}

bitspike_status bitspike_run_steps(const bitspike_network* network, const uint8_t* samples, size_t n, int32_t* steps,
                                   unsigned threads) {
  return guarded([&] {
    check_run(network, samples, n, steps);
    Network::Outputs outputs;
    outputs.steps = steps;
    run(network, samples, n, outputs, threads);
  });
}

uint64_t bitspike_spike_bytes(const bitspike_network* network, uint32_t layer) {
  std::uint64_t size = 0;
  guarded([&] {
    require(network, "network is NULL");
    const auto lifs = network->network.lif_nodes();
    if (layer < lifs.size()) size = spike_bytes(network->network, lifs[layer]);
  });
  return size;
}

bitspike_status bitspike_trace(const bitspike_network* network, const uint8_t* samples, size_t n, uint8_t* const* spikes,
                               unsigned threads) {
  return guarded([&] {
    check_run(network, samples, n, spikes);
    if (n == 0) return;
    Network::Outputs outputs;
    outputs.spikes = std::vector<std::uint8_t*>(spikes, spikes + network->network.lif_nodes().size());
    for (const std::uint8_t* layer : outputs.spikes) require(layer, "spikes of a layer is NULL");
    run(network, samples, n, outputs, threads);
  });
}

bitspike_status bitspike_spike_checksums(const bitspike_network* network, const uint8_t* samples, size_t n,
                                         uint32_t* checksums, unsigned threads) {
  return guarded([&] {
    check_run(network, samples, n, checksums);
    const auto lifs = network->network.lif_nodes();
    std::vector<std::vector<std::uint8_t>> layers(lifs.size());
    Network::Outputs outputs;
    outputs.spikes = std::vector<std::uint8_t*>(lifs.size());
    for (std::size_t i = 0; i < lifs.size(); ++i) {
      layers[i] = std::vector<std::uint8_t>(spike_bytes(network->network, lifs[i]));
      outputs.spikes[i] = layers[i].data();
    }
    const std::uint64_t sample = network->network.graph().sample_size();
    for (std::size_t i = 0; i < n; ++i) {
      run(network, samples + i * sample, 1, outputs, threads);
      std::uint32_t crc = 0;
      for (const auto& layer : layers) crc = bitspike::crc32c({layer.data(), layer.size()}, crc);
      checksums[i] = crc;
    }
  });
}

bitspike_status bitspike_self_test(const bitspike_network* network) {
  return guarded(
      [&] {
        require(network, "network is NULL");
        network->network.self_test();
      },
      BITSPIKE_ERROR_SELF_TEST);
}

}  // extern "C"
