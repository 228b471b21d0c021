// The order of multiplication of an attention.
#include "attention.hpp"

#include <cstdint>

namespace bitspike {

AttentionPlan plan_attention(std::size_t heads, std::size_t key_channels, std::size_t value_channels,
                             std::size_t queries, std::size_t tokens, std::size_t steps) {
  AttentionPlan plan;
  plan.heads = heads;
  plan.key_channels = key_channels / heads;
  plan.value_channels = value_channels / heads;
  plan.queries = queries;
  plan.tokens = tokens;
  plan.steps = steps;
  plan.wide = plan.key_channels * tokens > UINT16_MAX;
  // Cycles per head and step, fitted on Zen 4 (native/tests/attention_test.cpp --time): transposing 64 x 64 bits,
  // counting 16 lanes, adding a row for every fifth query channel. In floating point: any size fits.
  const auto blocks = [](std::size_t size, std::size_t block) {
    return static_cast<double>((size + block - 1) / block);
  };
  const auto d = static_cast<double>(plan.key_channels), n = static_cast<double>(queries);
  const double lanes = blocks(plan.value_channels, 16), groups = blocks(tokens, 64);
  const double transposed = (blocks(plan.key_channels, 64) + blocks(plan.value_channels, 64)) * groups * 350;
  const double counted = d * lanes * static_cast<double>(plan.words()) * 1.5;
  const double added = n * (15 + 0.2 * d * (1 + blocks(plan.value_channels, 32)) * (plan.wide ? 2 : 1));
  const double scored = n * static_cast<double>(tokens) * (3 * blocks(plan.key_channels, 64) + 1.5 * lanes);
  plan.scores = scored < transposed + counted + added;
  return plan;
}

}  // namespace bitspike
