// The rules of single nodes, checked on the record of each before anything is made of it.
#pragma once

#include <cstdint>
#include <vector>

#include "graph.hpp"

namespace bitspike {

constexpr std::uint32_t kMaxDimension = 65535;

// The sixteen words of a node record, in order.
struct Record {
  std::uint32_t op;
  std::uint32_t sources[2];
  std::uint32_t channels, height, width;
  std::uint32_t kernel_height, kernel_width, stride, padding, groups;
  std::uint32_t bits;
  std::uint32_t options[2];    // the second one of a Stream or Concat is its fourth source
  std::uint32_t third_source;  // of an Attention, Stream or Concat
  std::uint32_t codes;
};
static_assert(sizeof(Record) == 64, "a node record has 16 words");

// Fills in node `index` from its record; sources, kinds, shapes and options obey every rule of docs/format.md, or
// FormatError. Marks the sources in `used`.
void read_record(Graph& graph, std::size_t index, const Record& record, std::vector<std::uint8_t>& used);

}  // namespace bitspike
