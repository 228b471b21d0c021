// Products of binary matrices (ir.MatMul): AND and population count on words of 32 bits, by the kernel of 1-bit weights.
//
// Of every head at every step (a "unit") the left operand is packed into blocks of 16 output rows, [word][16] each, and so
// is a transposed right one; other right operands are gathered from the pixels of a tile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "graph.hpp"

namespace bitspike {

struct MatMulPlan {
  std::uint32_t transposed = kNone;
  std::size_t steps = 1, heads = 1;
  std::size_t rows = 0, columns = 0, inner = 0;  // of a product; `inner` numbers are summed

  std::size_t words() const { return (inner + 31) / 32; }
  std::size_t blocks() const { return (rows + 15) / 16; }
  std::size_t block_words() const { return words() * 16; }
  std::size_t column_blocks() const { return transposed == kRight ? (columns + 15) / 16 : 0; }
  std::size_t units() const { return steps * heads; }
  std::size_t unit_words() const { return (blocks() + column_blocks()) * block_words(); }
  // Below 2^60 for every valid graph.
  std::size_t bytes() const { return units() * unit_words() * 4; }
};

MatMulPlan matmul_plan(const Graph& graph, std::size_t index);

}  // namespace bitspike
