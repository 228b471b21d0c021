// What a node is called, how its weights unpack, and the memory budget of a file.
#include "graph.hpp"

namespace bitspike {

const char* op_name(Op op) {
  static constexpr const char* names[kOps] = {"Input",   "Conv", "Linear",  "Lif",      "OrPool",
                                              "SumPool", "Add",  "Readout", "Attention"};
  return names[static_cast<std::uint32_t>(op)];
}

const char* kind_name(Kind kind) {
  static constexpr const char* names[] = {"input", "spikes", "counts", "current", "logits"};
  return names[static_cast<int>(kind)];
}

std::string label(const Graph& graph, std::size_t index) {
  return "node " + std::to_string(index) + " (" + op_name(graph.nodes[index].op) + ")";
}

std::vector<std::int8_t> Node::unpack_weights() const {
  std::vector<std::int8_t> weights(weight_inputs * channels);
  const std::uint32_t mask = (1u << bits) - 1, sign = 1u << (bits - 1);
  std::uint32_t window = 0, available = 0;
  const std::uint8_t* next = packed_weights.data;
  for (std::int8_t& weight : weights) {
    if (available < bits) {
      window |= std::uint32_t{*next++} << available;
      available += 8;
    }
    const std::uint32_t raw = window & mask;
    window >>= bits;
    available -= bits;
    const int value = bits == 1 ? 2 * static_cast<int>(raw) - 1 : static_cast<int>(raw ^ sign) - static_cast<int>(sign);
    weight = static_cast<std::int8_t>(value);
  }
  return weights;
}

void Budget::charge(std::uint64_t bytes, const std::string& what) {
  if (bytes > limit_ - used_) {
    fail(what, ": ", bytes, " bytes on top of ", used_, " exceed the memory limit of ", limit_, " bytes");
  }
  used_ += bytes;
}

}  // namespace bitspike
