// Loads and runs networks on several threads at once and compares every result with the stored one: for
// ThreadSanitizer.
//
//   check_threads FOLDER [SECONDS]     FOLDER holds artifacts with test vectors
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dispatch.hpp"
#include "fuzz/expected.hpp"

namespace {

using bitspike::Network;
using namespace bitspike::fuzz;

constexpr std::uint64_t kMemory = std::uint64_t{1} << 28;
constexpr int kCallers = 4;

struct Subject {
  std::string name;
  File file;
  std::vector<std::unique_ptr<Network>> networks;  // per level and choice of kernels, shared by all callers
  Expected expected;
};

std::vector<Subject> load(const std::string& folder) {
  std::vector<Subject> subjects;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".bspk") continue;
    std::ifstream stream(entry.path(), std::ios::binary);
    Subject s;
    s.name = entry.path().filename().string();
    s.file.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    for (const auto* level : bitspike::available_levels()) {
      for (const auto& choice : kernel_choices()) {
        s.networks.push_back(std::make_unique<Network>(s.file, *level, kMemory, choice));
      }
    }
    s.expected = expected_results(s.networks[0]->graph());
    if (s.expected.count) subjects.push_back(std::move(s));
  }
  return subjects;
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 2 ? std::strtod(argv[2], nullptr) : 3;
  const std::vector<Subject> subjects = argc > 1 ? load(argv[1]) : std::vector<Subject>();
  if (subjects.empty()) {
    std::fprintf(stderr, "usage: check_threads FOLDER [SECONDS], FOLDER with artifacts that have test vectors\n");
    return 2;
  }
  std::atomic<unsigned long long> runs{0}, loads{0}, failures{0};
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  const auto call = [&](unsigned seed) {
    std::mt19937 random(seed);
    while (std::chrono::steady_clock::now() < end) {
      const Subject& s = subjects[random() % subjects.size()];
      const Network* network = s.networks[random() % s.networks.size()].get();
      std::unique_ptr<Network> own;
      if (random() % 4 == 0) {
        const auto choices = kernel_choices();
        own = std::make_unique<Network>(s.file, network->kernels(), kMemory, choices[random() % choices.size()]);
        network = own.get();
        ++loads;
      }
      Results results(*network, s.expected.count);
      const std::string what = differs(*network, s.expected, 1 + random() % s.expected.count, 1 + random() % 3, results);
      if (!what.empty() || (random() % 8 == 0 && network->self_test() != s.expected.count)) {
        std::fprintf(stderr, "%s, level %s: %s differ\n", s.name.c_str(), network->kernels().name, what.c_str());
        ++failures;
      }
      ++runs;
    }
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) callers.emplace_back(call, static_cast<unsigned>(i));
  for (auto& caller : callers) caller.join();
  std::printf("{\"callers\": %d, \"loads\": %llu, \"runs\": %llu, \"differences\": %llu}\n", kCallers, loads.load(),
              runs.load(), failures.load());
  return failures ? 1 : 0;
}
