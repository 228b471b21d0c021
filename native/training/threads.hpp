// Blocks of work over threads. OpenMP where the build has it: torch brings the runtime along, so that its threads and
// these are the same ones and never fight for processors. Else the engine's own pool.
#pragma once

#include <cstddef>

#ifndef _OPENMP
#include "../pool.hpp"
#endif

namespace bitspike::training {

// Calls work(part) for every part below `parts`, each once, on up to `parts` threads. `work` must not throw.
template <class Work>
void run_parts(unsigned parts, const Work& work) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1) if (parts > 1)
  for (int part = 0; part < static_cast<int>(parts); ++part) work(static_cast<unsigned>(part));
#else
  const Team team(parts);
  team.run(parts, work);
#endif
}

}  // namespace bitspike::training
