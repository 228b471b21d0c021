// Threads for one inference. Work is split into a few parts; the calling thread works too. Which thread computes a
// part never changes a result: parts write different memory.
//
// A layer takes microseconds, so threads that have nothing to do watch for work a short while before they sleep. On a
// busy machine a helper may get no processor for milliseconds. So nobody waits for a helper that has not begun: the
// caller takes every part that is still open. And when a thread lost its processor, helpers rest for a multiple of the
// time that was lost.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace bitspike {

constexpr unsigned kMaxThreads = 64;  // and parts of one piece of work

// Processors this process may run on (its affinity mask); at least 1.
unsigned usable_cpus();

// The part `part` of `parts` of the range 0 to `count`, in runs of whole `grain`s where count has that many.
struct Span {
  std::size_t first, last;
};
constexpr Span split(std::size_t count, unsigned parts, unsigned part, std::size_t grain = 1) {
  const std::size_t grains = (count + grain - 1) / grain, whole = grains / parts, rest = grains % parts;
  const std::size_t first = part * whole + (part < rest ? part : rest), last = first + whole + (part < rest);
  return {first * grain < count ? first * grain : count, last * grain < count ? last * grain : count};
}

// Threads that wait for work. One owner at a time.
class Pool {
 public:
  using Function = void (*)(void* context, unsigned part);

  Pool() = default;
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Owners call the rest; `try_acquire` is false while there is one.
  bool try_acquire();
  void release();

  // usable_cpus(), looked at now and then.
  unsigned cpus();

  // Makes `threads` threads available, the caller included; returns how many there are (the system may refuse some).
  unsigned grow(unsigned threads);

  // Ends the helpers; no run may be in progress.
  void stop();

  // Calls function(context, part) once for every part below `parts` (at most kMaxThreads), on up to `threads` threads,
  // and returns when all are done. Part i is meant for thread i, part 0 for the caller, but any may take it. The
  // function must not throw. Nothing is allocated.
  void run(unsigned threads, unsigned parts, Function function, void* context);

 private:
  using Mask = std::uint64_t;  // of parts, or of threads: bit i is part or thread i
  using Clock = std::chrono::steady_clock;

  void help(unsigned index);
  bool has_work(unsigned index) const;
  void take_parts(unsigned index);
  void wake(Mask threads);
  void await_parts(Clock::time_point start);
  void rest(Clock::duration lost, Clock::time_point now);
  template <class Condition>
  static bool watch(Condition met);

  std::atomic<bool> owned_{false};
  std::vector<std::thread> helpers_;  // thread i + 1
  unsigned cpus_ = 1, until_count_ = 0;
  Clock::time_point acquired_{}, rest_until_{};  // until then helpers are left alone
  Clock::duration acquired_cpu_{}, waited_{};

  Function function_ = nullptr;
  void* context_ = nullptr;
  std::atomic<unsigned> limit_{0};  // threads that may take parts

  std::mutex mutex_;  // for falling asleep only
  std::array<std::condition_variable, kMaxThreads> wakeups_;

  // Written by several threads, each on its own cache line.
  alignas(64) std::atomic<Mask> open_{0};      // parts that nobody has taken
  alignas(64) std::atomic<unsigned> left_{0};  // parts that are not done
  alignas(64) std::atomic<Mask> asleep_{0};    // threads that need a wake-up
  std::atomic<bool> stop_{false};
};

// The threads of one piece of work: those of the pool that all of this process shares, or the calling thread alone
// while another one has them.
class Team {
 public:
  // Never more threads than processors.
  explicit Team(unsigned threads);
  ~Team() {
    if (pool_) pool_->release();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  unsigned size() const { return size_; }  // threads, the caller included

  // Calls work(part) for every part below `parts`, at most kMaxThreads; see Pool::run.
  template <class Work>
  void run(unsigned parts, Work&& work) const {
    if (!pool_ || parts <= 1) {
      for (unsigned part = 0; part < parts; ++part) work(part);
      return;
    }
    using Target = std::remove_reference_t<Work>;
    const auto call = [](void* context, unsigned part) { (*static_cast<Target*>(context))(part); };
    pool_->run(size_, parts, call, const_cast<void*>(static_cast<const void*>(&work)));
  }

 private:
  Pool* pool_ = nullptr;
  unsigned size_ = 1;
};

}  // namespace bitspike
