// Sample files of the command-line runner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "bitspike.h"

namespace bitspike {

// The file cannot be used; the message names it and what is accepted.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Samples of one file, in the order that a network of this shape reads, by the file's ending:
//   .raw        bytes (n, [frames,] C, H, W); so is standard input, "-"
//   .npy        NumPy array uint8 (n, [frames,] C, H, W) or ([frames,] C, H, W)
//   .pgm, .ppm  one binary image with 8 bits per value, for networks with 1 or 3 channels and one frame
std::vector<std::uint8_t> read_samples(const std::string& path, const bitspike_shape& shape);

}  // namespace bitspike
