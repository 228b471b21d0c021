// Blocks of tiles over threads, and the memory they work in: a few megabytes, whatever the maps' size.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "threads.hpp"
#include "winograd.hpp"

namespace bitspike::training {
namespace {

constexpr std::size_t kLine = 64;               // bytes; no register is wider
constexpr std::size_t kBlockBytes = 3 << 17;    // of the points that a thread works on: well within a second cache
constexpr std::size_t kChunkBytes = 6 << 20;    // of those that threads share for the gradients by weights
constexpr std::size_t kMostTiles = 96;          // of a block
constexpr std::size_t kWorthAThread = 1 << 18;  // products

// Uninitialised memory that starts with a cache line.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : memory_(new std::byte[bytes + kLine]) {}
  std::byte* get() const {
    return memory_.get() + (kLine - reinterpret_cast<std::uintptr_t>(memory_.get()) % kLine);
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
};

std::size_t whole_lines(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Tiles of a block whose points, of `channels` channels, fill `bytes`: a multiple of `rows`.
std::size_t block_of(std::size_t bytes, std::size_t channels, std::size_t number, std::size_t rows) {
  const std::size_t most = std::min(bytes / (kPoints * channels * number), kMostTiles);
  return std::max(most / rows, std::size_t{1}) * rows;
}

unsigned useful_threads(std::size_t units, std::size_t products, unsigned threads) {
  return static_cast<unsigned>(std::max<std::size_t>(1, std::min({units, 1 + products / kWorthAThread,
                                                                  static_cast<std::size_t>(threads)})));
}

// Calls work(unit) for units 0 to `units` in equal runs.
template <class Work>
void share(std::size_t units, unsigned parts, const Work& work) {
  run_parts(parts, [&](unsigned part) {
    for (std::size_t unit = units * part / parts; unit < units * (part + 1) / parts; ++unit) work(unit);
  });
}

}  // namespace

void winograd_forward(const WinogradTask& task, const WinogradKernels& kernels, std::size_t number, unsigned threads) {
  const std::size_t inputs = task.maps.channels, tiles = task.maps.tiles(), panel = kernels.panel;
  const std::size_t panels = in_panels(task.outputs, panel) / panel, width = in_panels(inputs, panel);
  const std::size_t block = block_of(kBlockBytes, width + panel, number, kernels.rows);
  const std::size_t blocks = (tiles + block - 1) / block;
  const std::size_t products = tiles * kPoints * inputs * task.outputs;
  const unsigned parts = useful_threads(blocks, products, threads);
  const std::size_t panel_bytes = kPoints * inputs * panel * number;
  const std::size_t apart = whole_lines((width + kPoints * (between_points(inputs, panel, block, number) +
                                                            between_points(panel, panel, block, number))) *
                                        number);
  const Scratch points(panels * panel_bytes), scratch(parts * apart);
  share(panels, useful_threads(panels, products, threads),
        [&](std::size_t unit) { kernels.weights(task, unit, points.get() + unit * panel_bytes); });
  run_parts(parts, [&](unsigned part) {
    for (std::size_t unit = blocks * part / parts; unit < blocks * (part + 1) / parts; ++unit) {
      const std::size_t first = unit * block;
      kernels.forward(task, points.get(), first, std::min(block, tiles - first), block, scratch.get() + part * apart);
    }
  });
}

void winograd_by_weights(const WinogradWeightTask& task, const WinogradKernels& kernels, std::size_t number,
                         unsigned threads) {
  const std::size_t panel = kernels.panel, tiles = task.maps.tiles();
  const std::size_t inputs = in_panels(task.maps.channels, panel), outputs = in_panels(task.by_output.channels, panel);
  const std::size_t block = block_of(kChunkBytes, inputs + outputs, number, kernels.rows);
  const Scratch sums(kPoints * inputs * outputs * number), zeros(std::max(inputs, outputs) * number);
  const Scratch x(kPoints * between_points(inputs, panel, block, number) * number);
  const Scratch g(kPoints * between_points(outputs, panel, block, number) * number);
  std::memset(zeros.get(), 0, std::max(inputs, outputs) * number);
  const std::size_t products = std::min(block, tiles) * kPoints * inputs * outputs;
  const std::size_t units = kPoints * (inputs / panel);
  for (std::size_t first = 0; first < tiles; first += block) {
    const std::size_t count = std::min(block, tiles - first);
    share(count, useful_threads(count, products, threads), [&](std::size_t tile) {
      kernels.input(task.maps, first, tile, tile + 1, block, zeros.get(), x.get());
      kernels.by_output(task.by_output, first, tile, tile + 1, block, zeros.get(), g.get());
    });
    share(units, useful_threads(units, products, threads), [&](std::size_t unit) {
      kernels.products(task, x.get(), g.get(), unit % kPoints, unit / kPoints, count, block, first == 0, sums.get());
    });
  }
  share(task.maps.channels, useful_threads(task.maps.channels, kPoints * inputs * outputs, threads),
        [&](std::size_t input) { kernels.by_weights(task, input, sums.get()); });
}

}  // namespace bitspike::training
