// Runs networks in every way there is and compares each logit and spike with the results stored in their files.
//
//   generator | fuzz_differential [--save DIR] [--progress FILE]
//
// Standard input is a stream of cases: u64 seed, u32 size, the bytes of an artifact with test vectors. A difference is
// printed with its seed and saved as DIR/SEED.bspk. FILE always holds the seed of the case in work, for when a sanitizer
// ends the process. Prints one line of JSON at the end; exit status 0, or 1 after a difference.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "expected.hpp"

namespace {

using bitspike::Family;
using bitspike::Network;
using bitspike::fuzz::File;

constexpr std::uint64_t kMemory = std::uint64_t{1} << 30;
constexpr unsigned kThreads = 2;
constexpr std::size_t kMaxFailures = 20;

unsigned long long cases = 0, networks = 0, runs = 0, failures = 0;
std::map<std::string, std::map<std::string, unsigned long long>> layers;  // by level and family

template <class T>
bool read(T& value) {
  return std::fread(&value, sizeof value, 1, stdin) == 1;
}

// One network in several batch sizes and numbers of threads; "" or what differs. The self-test runs single samples on
// one thread.
std::string check(const Network& network, bool every_way) {
  const auto expected = bitspike::fuzz::expected_results(network.graph());
  if (expected.count == 0) return "no test vectors";
  if (network.self_test() != expected.count) return "self-test";
  bitspike::fuzz::Results results(network, expected.count);
  const auto run = [&](std::size_t n, unsigned threads) -> std::string {
    ++runs;
    const std::string what = bitspike::fuzz::differs(network, expected, n, threads, results);
    return what.empty() ? "" : what + ", batch " + std::to_string(n) + ", threads " + std::to_string(threads);
  };
  std::string what = run(1, kThreads);
  if (what.empty() && every_way) what = run(expected.count, 1);
  if (what.empty() && expected.count > 1) what = run(expected.count, kThreads);
  return what;
}

std::vector<Family> families(const Network& network) {
  std::vector<Family> all;
  for (std::size_t i = 0; i < network.graph().nodes.size(); ++i) all.push_back(network.family(i));
  return all;
}

// The file at one level with every choice of kernels that makes a difference; "" or what differs.
std::string check(const File& file, const bitspike::Kernels& kernels, std::uint64_t seed) {
  auto choices = bitspike::fuzz::kernel_choices();
  std::set<std::vector<Family>> seen;
  const std::vector<std::string> names = bitspike::family_names();
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i <= choices.size(); ++i) {
    if (i == choices.size() && seen.size() < 2) break;
    std::vector<std::string> choice;  // the last: a different family for each node
    if (i < choices.size()) {
      choice = choices[i];
    } else {
      for (std::size_t node = 0; node < seen.begin()->size(); ++node) choice.push_back(names[random() % names.size()]);
    }
    const Network network(file, kernels, kMemory, choice);
    const auto used = families(network);
    if (!seen.insert(used).second) continue;
    ++networks;
    for (const Family family : used) {
      if (family != Family::None) ++layers[kernels.name][bitspike::family_name(family)];
    }
    const std::string what = check(network, i == 0);
    if (what.empty()) continue;
    std::string kinds;
    for (const Family family : used) kinds += std::string(kinds.empty() ? "" : ",") + bitspike::family_name(family);
    return what + ", kernels " + kinds;
  }
  return "";
}

void report(std::uint64_t seed, const File& file, const std::string& what, const std::string& folder) {
  ++failures;
  std::fprintf(stderr, "DIFFERENCE seed %llu: %s\n", static_cast<unsigned long long>(seed), what.c_str());
  if (folder.empty()) return;
  std::ofstream out(folder + "/" + std::to_string(seed) + ".bspk", std::ios::binary);
  out.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, progress;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--save") folder = argv[i + 1];
    if (std::string(argv[i]) == "--progress") progress = argv[i + 1];
  }
  std::FILE* place = progress.empty() ? nullptr : std::fopen(progress.c_str(), "w");
  std::uint64_t seed;
  std::uint32_t size;
  while (failures < kMaxFailures && read(seed) && read(size)) {
    File file(size);
    if (std::fread(file.data(), 1, size, stdin) != size) {
      std::fprintf(stderr, "the stream ends in the middle of a case\n");
      return 2;
    }
    if (place) {
      std::rewind(place);
      std::fprintf(place, "%20llu\n", static_cast<unsigned long long>(seed));
      std::fflush(place);
    }
    ++cases;
    for (const bitspike::Kernels* level : bitspike::available_levels()) {
      std::string what;
      try {
        what = check(file, *level, seed);
      } catch (const std::exception& error) {
        what = error.what();
      }
      if (!what.empty()) report(seed, file, std::string("level ") + level->name + ": " + what, folder);
    }
  }
  if (place) std::fclose(place);
  std::printf("{\"cases\": %llu, \"networks\": %llu, \"runs\": %llu, \"differences\": %llu, \"layers\": {", cases, networks, runs,
              failures);
  const char* between = "";
  for (const auto& [level, counts] : layers) {
    std::printf("%s\"%s\": {", between, level.c_str());
    between = "";
    for (const auto& [family, count] : counts) {
      std::printf("%s\"%s\": %llu", between, family.c_str(), count);
      between = ", ";
    }
    std::printf("}");
    between = ", ";
  }
  std::printf("}}\n");
  return failures ? 1 : 0;
}
