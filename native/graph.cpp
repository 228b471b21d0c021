// What a node is called, how its weights unpack, and the memory budget of a file.
#include "graph.hpp"

namespace bitspike {

const char* op_name(Op op) {
  static constexpr const char* names[kOps] = {"Input", "Conv",    "Linear",    "Lif",    "OrPool",  "SumPool",
                                              "Add",   "Readout", "Attention", "Stream", "MaxPool", "Reduce",
                                              "Gate",  "MatMul",  "Concat",    "Mix",    "Product"};
  return names[static_cast<std::uint32_t>(op)];
}

const char* kind_name(Kind kind) {
  static constexpr const char* names[] = {"input", "spikes", "counts", "current", "logits", "stream"};
  return names[static_cast<int>(kind)];
}

std::string label(const Graph& graph, std::size_t index) {
  std::string text;
  append(text, "node ", index, " (", op_name(graph.nodes[index].op), ")");
  return text;
}

void fail_at_with(const Graph& graph, std::size_t index, std::uint64_t parts, ...) {
  std::string text = label(graph, index) + ": ";
  std::va_list arguments;
  va_start(arguments, parts);
  append_parts(text, parts, arguments);
  va_end(arguments);
  throw FormatError(text);
}

std::vector<std::int8_t> Node::unpack_weights() const {
  std::vector<std::int8_t> weights(weight_inputs * channels);
  const std::uint32_t mask = (1u << bits) - 1, sign = 1u << (bits - 1);
  std::uint32_t window = 0, available = 0;
  const std::uint32_t flip = odd_levels() ? 0 : sign;  // odd levels are stored as q for 2 q - (2^bits - 1)
  const bool doubled = odd_levels() && !halved();
  const int scale = doubled ? 2 : 1, offset = doubled ? largest_weight() : static_cast<int>(sign);
  const std::uint8_t* next = packed_weights.data;
  for (std::int8_t& weight : weights) {
    if (available < bits) {
      window |= std::uint32_t{*next++} << available;
      available += 8;
    }
    const std::uint32_t raw = window & mask;
    window >>= bits;
    available -= bits;
    weight = static_cast<std::int8_t>(static_cast<int>(raw ^ flip) * scale - offset);
  }
  return weights;
}

void Budget::charge(std::uint64_t bytes, const char* what, const Graph* graph, std::size_t node) {
  if (bytes > limit_ - used_) {
    fail(graph ? label(*graph, node) + " " : std::string(), what, ": ", bytes, " bytes on top of ", used_,
         " exceed the memory limit of ", limit_, " bytes");
  }
  used_ += bytes;
}

}  // namespace bitspike
