#include <algorithm>
#include <cstring>

#include "matmul.hpp"
#include "runner.hpp"

namespace bitspike {
namespace {

// Bits first .. first + inner - 1 of a row as words, `stride` apart; the last one is filled up with zeros.
void gather_words(const std::uint8_t* row, std::size_t first, std::size_t inner, std::uint32_t* out, std::size_t stride) {
  for (std::size_t i = 0; i < inner; i += 64, out += 2 * stride) {
    const std::uint64_t bits = bits_at(row, first + i, std::min<std::size_t>(inner - i, 64));
    *out = static_cast<std::uint32_t>(bits);
    if (inner - i > 32) out[stride] = static_cast<std::uint32_t>(bits >> 32);
  }
}

}  // namespace

MatMulPlan matmul_plan(const Graph& graph, std::size_t index) {
  const Node& node = graph.nodes[index];
  const Node &left = graph.nodes[node.sources[0]], &right = graph.nodes[node.sources[1]];
  MatMulPlan plan;
  plan.transposed = node.option;
  plan.steps = graph.time_steps;
  plan.heads = node.groups;
  plan.rows = node.channels / node.groups;
  plan.columns = node.option == kRight ? node.height : right.pixels();
  plan.inner = node.option == kLeft ? left.channels / node.groups : left.pixels();
  return plan;
}

void Runner::pack_operands(std::size_t source, std::uint32_t slot) const {
  const Node& node = net_.graph_.nodes[source];
  const MatMulPlan plan = matmul_plan(net_.graph_, source);
  auto* operands = at<std::uint32_t>(net_.scratch_.operands[slot]);
  const SpikeBits left = spike_bits(node.sources[0]), right = spike_bits(node.sources[1]);
  const auto pack = kernels_.events->attention.pack;
  share(plan.units() * plan.unit_words() / 4, [&](unsigned part, unsigned parts) {
    const Span mine = split(plan.units(), parts, part);
    for (std::size_t unit = mine.first; unit < mine.last; ++unit) {
      const std::size_t step = unit / plan.heads, head = unit % plan.heads;
      std::uint32_t* out = operands + unit * plan.unit_words();
      if (plan.transposed != kLeft) {
        pack(left, step, plan.inner, head * plan.rows, plan.rows, out, plan.block_words(), 16);
        if (plan.transposed == kRight) {
          out += plan.blocks() * plan.block_words();
          pack(right, step, plan.inner, head * plan.columns, plan.columns, out, plan.block_words(), 16);
        }
        continue;
      }
      for (std::size_t token = 0; token < plan.rows; ++token) {
        gather_words(left.at(step, token), head * plan.inner, plan.inner,
                     out + token / 16 * plan.block_words() + token % 16, 16);
      }
    }
  });
}

// A head's rows may end inside a block: what is written beyond them, the next head's rows replace.
void Runner::multiply_tile(std::size_t source, std::uint32_t slot, unsigned part, const Tile& tile) const {
  const MatMulPlan plan = matmul_plan(net_.graph_, source);
  const SpikeBits right = spike_bits(net_.graph_.nodes[source].sources[1]);
  const auto* operands = at<std::uint32_t>(net_.scratch_.operands[slot]);
  auto* rows = own<std::uint32_t>(part, net_.scratch_.local.rows);
  const std::size_t words = plan.words(), number = tile.narrow ? sizeof(std::int16_t) : sizeof(std::int32_t);
  DotTask task{nullptr, 1, rows, tile.pixels, words, nullptr, nullptr, plan.steps * tile.lanes, tile.narrow};
  for (std::size_t unit = 0; unit < plan.units(); ++unit) {
    const std::size_t step = unit / plan.heads, head = unit % plan.heads;
    const std::uint32_t* packed = operands + unit * plan.unit_words();
    const std::uint32_t* columns = packed + plan.blocks() * plan.block_words();
    for (std::size_t p = 0; p < tile.pixels; ++p) {
      const std::size_t column = tile.first + p;
      if (plan.transposed == kRight) {
        const std::uint32_t* from = columns + column / 16 * plan.block_words() + column % 16;
        for (std::size_t w = 0; w < words; ++w) rows[p * words + w] = from[16 * w];
      } else {
        gather_words(right.at(step, column), head * plan.inner, plan.inner, rows + p * words, 1);
      }
    }
    for (std::size_t block = 0; block < plan.blocks(); ++block) {
      task.weights = packed + block * plan.block_words();
      task.out = static_cast<std::uint8_t*>(tile.out) + (step * tile.lanes + head * plan.rows + block * kLanes) * number;
      kernels_.dot_bits(task);
    }
  }
}

}  // namespace bitspike
