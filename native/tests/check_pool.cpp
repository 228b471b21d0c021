// Tests the thread pool, best under ThreadSanitizer, and measures it.
//
//   check_pool                 every part once, whoever takes it; several callers; fork; growth
//   check_pool measure [MS]    microseconds per barrier and per piece of work, 1 and 2 threads
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "pool.hpp"

// Sanitizers do not follow a forked child's threads.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define BITSPIKE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define BITSPIKE_SANITIZED 1
#endif
#endif
#if !defined(BITSPIKE_SANITIZED) && (defined(__unix__) || defined(__APPLE__))
#define BITSPIKE_CHECK_FORK 1
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using bitspike::Pool;
using bitspike::Team;
using Clock = std::chrono::steady_clock;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "check_pool: %s\n", what);
  std::exit(1);
}

double microseconds(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

void work_for(double us) {
  const auto end = Clock::now() + std::chrono::duration<double, std::micro>(us);
  while (Clock::now() < end) {
  }
}

// Plain memory on purpose: a sanitizer sees two threads in one part, or a caller that returns too early.
template <class Run>
void every_part_once(unsigned parts, const Run& run) {
  int counts[bitspike::kMaxThreads] = {};
  run([&counts](unsigned part) { ++counts[part]; });
  for (unsigned part = 0; part < bitspike::kMaxThreads; ++part) {
    require(counts[part] == (part < parts), "a part ran not exactly once");
  }
}

void every_part_once(const Team& team, unsigned parts) {
  every_part_once(parts, [&](auto work) { team.run(parts, work); });
}

void every_part_once(Pool& pool, unsigned threads, unsigned parts) {
  every_part_once(parts, [&](auto work) {
    using Work = decltype(work);
    pool.run(threads, parts, [](void* context, unsigned part) { (*static_cast<Work*>(context))(part); }, &work);
  });
}

// More threads than processors too, which a Team would not use.
void check_pool() {
  std::mt19937 random(1);
  Pool pool;
  require(pool.try_acquire() && !pool.try_acquire(), "a pool has one owner");
  for (const unsigned threads : {1u, 2u, 3u, 8u, 2u, 100u}) {
    const unsigned got = pool.grow(threads);
    require(got == std::min(threads, bitspike::kMaxThreads), "the pool has fewer threads than asked for");
    for (unsigned parts = 0; parts <= bitspike::kMaxThreads; ++parts) every_part_once(pool, got, parts);
  }
  for (int i = 0; i < 3000; ++i) {
    every_part_once(pool, 1 + random() % 4, random() % 9);
    if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));  // helpers fall asleep
  }
  for (int i = 0; i < 50; ++i) {  // made, used once and ended
    Pool brief;
    every_part_once(brief, brief.grow(4), 4);
  }
}

void check_team() {
  for (unsigned threads : {1u, 2u, 100u}) {
    const Team team(threads);
    require(team.size() == std::min({threads, bitspike::usable_cpus(), bitspike::kMaxThreads}), "a team of a wrong size");
    for (unsigned parts = 0; parts <= bitspike::kMaxThreads; ++parts) every_part_once(team, parts);
  }
}

void check_helpers_take_part() {
  if (bitspike::usable_cpus() == 1) return;
  const auto self = std::this_thread::get_id();
  std::atomic<int> elsewhere{0};
  const auto end = Clock::now() + std::chrono::seconds(20);
  while (elsewhere == 0 && Clock::now() < end) {
    const Team team(2);
    team.run(2, [&](unsigned) {
      if (std::this_thread::get_id() != self) ++elsewhere;
      work_for(300);
    });
  }
  require(elsewhere > 0, "no helper ever took a part");
}

void check_split() {
  for (std::size_t count : {0, 1, 5, 16, 17, 100}) {
    for (unsigned parts = 1; parts < 9; ++parts) {
      for (std::size_t grain : {1, 8}) {
        std::size_t next = 0;
        for (unsigned part = 0; part < parts; ++part) {
          const auto span = bitspike::split(count, parts, part, grain);
          require(span.first == next && span.first <= span.last, "parts of a range are not adjacent");
          require(span.first % grain == 0 || span.first == count, "a part does not begin at a grain");
          next = span.last;
        }
        require(next == count, "parts do not cover the range");
      }
    }
  }
}

// One has the pool, the others work alone, and all results are right.
void check_many_callers() {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const Team team(3);
        every_part_once(team, 1 + i % 7);
        const Team inner(2);
        require(team.size() == 1 || inner.size() == 1, "two callers have the pool at once");
      }
    });
  }
  for (auto& caller : callers) caller.join();
}

#if defined(BITSPIKE_CHECK_FORK)
// A child of a process with threads has none of them and must not wait for them, nor must its end.
void check_fork() {
  const unsigned cpus = bitspike::usable_cpus();
  for (int i = 0; i < 20; ++i) {
    every_part_once(Team(3), 3);
    const pid_t child = fork();
    require(child >= 0, "fork failed");
    if (child == 0) {
      for (int run = 0; run < 50; ++run) every_part_once(Team(2), 5);
      require(Team(2).size() == std::min(cpus, 2u), "a forked child has no pool");
      if (i % 2) _exit(0);
      std::exit(0);
    }
    int status = 0;
    alarm(60);
    require(waitpid(child, &status, 0) == child && status == 0, "a forked child failed");
    alarm(0);
  }
}
#endif

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Work as a number of operations, not as time: on a busy machine it takes longer.
void compute(std::size_t rounds) {
  double x = 1;
  for (std::size_t i = 0; i < rounds; ++i) x = x * 1.0000001 + 1e-9;
  require(x > 0, "arithmetic is broken");
}

// Microseconds of ten layers with a barrier after each.
double inference(unsigned threads, std::size_t rounds) {
  const auto start = Clock::now();
  const Team team(threads);
  for (int layer = 0; layer < 10; ++layer) {
    team.run(threads, [&](unsigned) { compute(rounds / threads); });
  }
  return microseconds(Clock::now() - start);
}

void measure(double milliseconds) {
  std::printf("usable CPUs: %u\n", bitspike::usable_cpus());
  { const Team warm(2); warm.run(2, [](unsigned) { work_for(1000); }); }
  std::vector<double> empty;
  {
    const Team team(2);
    for (int i = 0; i < 2000; ++i) {
      const auto start = Clock::now();
      team.run(2, [](unsigned) {});
      empty.push_back(microseconds(Clock::now() - start));
    }
  }
  std::printf("empty barrier, 2 threads: median %.2f us\n", median(empty));
  double rounds_per_us = 0;
  for (int i = 0; i < 50; ++i) {
    const auto before = Clock::now();
    compute(200000);
    rounds_per_us = std::max(rounds_per_us, 200000 / microseconds(Clock::now() - before));
  }
  for (const double us : {10.0, 50.0, 200.0}) {
    std::vector<double> times[2];
    double wall[2] = {};
    const auto rounds = static_cast<std::size_t>(us * rounds_per_us);
    const auto end = Clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
    while (Clock::now() < end) {  // in turns long enough that no turn pays for processor time that another one used
      for (unsigned threads = 1; threads <= 2; ++threads) {
        const auto begin = Clock::now();
        while (Clock::now() - begin < std::chrono::milliseconds(300)) times[threads - 1].push_back(inference(threads, rounds));
        wall[threads - 1] += microseconds(Clock::now() - begin);
      }
    }
    for (unsigned threads = 1; threads <= 2; ++threads) {
      auto& t = times[threads - 1];
      std::sort(t.begin(), t.end());
      std::printf("10 layers of %3.0f us, %u threads: median %8.1f us  p99 %8.1f  max %8.1f  wall time each %8.1f\n", us, threads,
                  t[t.size() / 2], t[t.size() * 99 / 100], t.back(), wall[threads - 1] / static_cast<double>(t.size()));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "measure") == 0) {
    measure(argc > 2 ? std::strtod(argv[2], nullptr) : 2000);
    return 0;
  }
  check_split();
  check_pool();
  check_team();
  check_helpers_take_part();
  check_many_callers();
#if defined(BITSPIKE_CHECK_FORK)
  check_fork();
#endif
  std::puts("pool: ok");
  return 0;
}
