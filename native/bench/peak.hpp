// What one core can do at most: register-only loops of the instruction mixes that the kernels are made of.
#pragma once

#include <string>
#include <vector>

namespace bitspike::bench {

// Multiply-accumulates per second of CPU time, the best of several short loops (about 5 ms in all).
//
//   popcount   one weight plane times spikes: AND, population count, ADD
//   table      spikes select a sum of weights: byte shuffle, ADD
//   int8       unsigned times signed bytes, summed in 32 bits
//
// `level` is a kernel level of this machine. std::invalid_argument, naming what is accepted, where there is no such loop.
double peak(const std::string& level, const std::string& mix);

// The mixes that `level` has on this machine; empty for the portable one.
std::vector<std::string> peak_mixes(const std::string& level);

}  // namespace bitspike::bench
