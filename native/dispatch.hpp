// Which kernel levels this machine can run.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace bitspike {

// Available levels, slowest first; "portable" is always there.
std::vector<const Kernels*> available_levels();

// The level called `name`; if empty the one named by the environment variable BITSPIKE_LEVEL, else the fastest.
// std::invalid_argument, naming the available ones, where there is no such level.
const Kernels& select_level(const std::string& name);

}  // namespace bitspike
