#include "pool.hpp"

#include <algorithm>
#include <system_error>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <time.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace bitspike {
namespace {

using namespace std::chrono_literals;

constexpr auto kWatch = 40us;        // how long to watch for work before sleeping: longer than a wake-up takes
constexpr int kPausesPerLook = 16;   // at the clock, which costs as much as these pauses
constexpr unsigned kUses = 256;      // between looks at the affinity mask
constexpr auto kInterrupted = 4 * kWatch;  // losing more time means that another process had the processor
constexpr unsigned kRest = 20;  // times the time lost, so that threads cost about a twentieth at worst
constexpr auto kLongestRest = 1s;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Processor time of the calling thread; always 0 where it is not known.
std::chrono::nanoseconds cpu_time() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec t;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0) return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
#endif
  return {};
}

// Signals belong to the threads of the program, not to helpers.
class BlockSignals {
#if defined(__unix__) || defined(__APPLE__)
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#endif
};

// Made on first use and never freed: a thread may look at it while the process ends.
std::atomic<Pool*> shared_pool{nullptr};

Pool& shared() {
  Pool* pool = shared_pool.load(std::memory_order_acquire);
  if (pool) return *pool;
  Pool* made = new Pool;
  if (shared_pool.compare_exchange_strong(pool, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *pool;
}

// Ends the helpers when the process does, or when a library with this file is unloaded. They stay owned from then on,
// so what still runs later runs on its own thread.
struct AtExit {
  ~AtExit() {
    Pool* pool = shared_pool.load(std::memory_order_acquire);
    if (pool && pool->try_acquire()) pool->stop();
  }
} at_exit;

#if defined(__unix__) || defined(__APPLE__)
// A forked child has the memory of the pool but not its threads: it leaves that pool alone and makes its own.
Pool* abandoned = nullptr;
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { abandoned = shared_pool.exchange(nullptr); });
#endif

}  // namespace

unsigned usable_cpus() {
#if defined(__linux__)
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {  // the mask must have room for all that the system has
    cpu_set_t* mask = CPU_ALLOC(cpus);
    if (!mask) break;
    const std::size_t size = CPU_ALLOC_SIZE(cpus);
    const int count = sched_getaffinity(0, size, mask) == 0 ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return static_cast<unsigned>(count);
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

bool Pool::try_acquire() {
  if (owned_.exchange(true, std::memory_order_acquire)) return false;
  acquired_ = Clock::now();
  acquired_cpu_ = cpu_time();
  waited_ = {};
  return true;
}

void Pool::release() {
  const auto now = Clock::now();
  const auto cpu = cpu_time();
  if (now >= rest_until_ && cpu.count() != 0) rest(now - acquired_ - waited_ - (cpu - acquired_cpu_), now);
  owned_.store(false, std::memory_order_release);
}

// After `lost` time without a processor: helpers would only take part in a fight for it.
void Pool::rest(Clock::duration lost, Clock::time_point now) {
  if (lost > kInterrupted) rest_until_ = now + std::min<Clock::duration>(kRest * lost, kLongestRest);
}

unsigned Pool::cpus() {
  if (until_count_-- == 0) {
    cpus_ = usable_cpus();
    until_count_ = kUses;
  }
  return cpus_;
}

unsigned Pool::grow(unsigned threads) {
  threads = std::clamp(threads, 1u, kMaxThreads);
  if (helpers_.size() + 1 < threads) {
    [[maybe_unused]] const BlockSignals block;
    try {
      helpers_.reserve(threads - 1);
      while (helpers_.size() + 1 < threads) {
        const auto index = static_cast<unsigned>(helpers_.size()) + 1;
        helpers_.emplace_back([this, index] { help(index); });
      }
    } catch (const std::system_error&) {  // no more threads for this process: fewer do the same work
    }
  }
  return std::min<unsigned>(threads, static_cast<unsigned>(helpers_.size()) + 1);
}

void Pool::stop() {
  stop_.store(true);
  wake(~Mask{0});
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

void Pool::run(unsigned threads, unsigned parts, Function function, void* context) {
  const bool alone = threads <= 1 || parts <= 1;
  const auto start = alone ? Clock::time_point() : Clock::now();
  if (alone || start < rest_until_) {
    for (unsigned part = 0; part < parts; ++part) function(context, part);
    return;
  }
  function_ = function;
  context_ = context;
  limit_.store(threads, std::memory_order_relaxed);
  left_.store(parts, std::memory_order_relaxed);
  open_.store(~Mask{0} >> (kMaxThreads - parts));  // sequentially consistent with falling asleep, as asleep_ is
  wake(~Mask{0} >> (kMaxThreads - std::min(threads, parts)));
  take_parts(0);
  if (left_.load(std::memory_order_acquire) != 0) await_parts(start);
}

// Works on whatever parts are open, the thread's own one first.
void Pool::take_parts(unsigned index) {
  while (const Mask open = open_.load(std::memory_order_relaxed)) {
    unsigned part = index;
    while (!(open >> part & 1)) part = (part + 1) % kMaxThreads;
    const Mask bit = Mask{1} << part;
    if (!(open_.fetch_and(~bit, std::memory_order_acquire) & bit)) continue;  // another thread was faster
    function_(context_, part);
    if (left_.fetch_sub(1) == 1 && index != 0) wake(1);
  }
}

// Until `met` holds, but not for long; false if it does not.
template <class Condition>
bool Pool::watch(Condition met) {
  const auto end = Clock::now() + kWatch;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (met()) return true;
      pause();
    }
  } while (Clock::now() < end);
  return false;
}

// The caller, while helpers still work on the last parts.
void Pool::await_parts(Clock::time_point start) {
  const auto worked = Clock::now();
  const auto done = [this] { return left_.load() == 0; };
  if (!watch(done)) {
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_or(1);
    while (!done()) {
      wakeups_[0].wait(lock);
      asleep_.fetch_or(1);
    }
    asleep_.fetch_and(~Mask{1});
  }
  const auto end = Clock::now();
  const auto waited = end - worked;
  waited_ += waited;
  if (waited > 2 * (worked - start)) rest(waited, end);  // not just a longer part
}

bool Pool::has_work(unsigned index) const { return open_.load() != 0 && index < limit_.load(std::memory_order_relaxed); }

void Pool::help(unsigned index) {
  const auto called = [&] { return has_work(index) || stop_.load(); };
  for (;;) {
    if (!watch(called)) {
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_or(Mask{1} << index);
      if (!called()) wakeups_[index].wait(lock);  // once: called too late, it watches for the next work
      asleep_.fetch_and(~(Mask{1} << index));
    }
    if (stop_.load()) return;
    if (has_work(index)) take_parts(index);
  }
}

// Wakes those of `threads` that sleep.
void Pool::wake(Mask threads) {
  if (!(asleep_.load() & threads)) return;
  Mask sleeping = asleep_.fetch_and(~threads) & threads;
  {
    const std::lock_guard<std::mutex> lock(mutex_);  // whoever is about to sleep now sleeps, and hears the call
  }
  for (unsigned i = 0; sleeping != 0; ++i, sleeping >>= 1) {
    if (sleeping & 1) wakeups_[i].notify_one();
  }
}

Team::Team(unsigned threads) {
  if (threads <= 1) return;
  Pool& pool = shared();
  if (!pool.try_acquire()) return;
  size_ = pool.grow(std::min(threads, pool.cpus()));
  if (size_ > 1) {
    pool_ = &pool;
  } else {
    pool.release();
  }
}

}  // namespace bitspike
