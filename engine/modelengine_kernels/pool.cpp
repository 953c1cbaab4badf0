#include "pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace {

// Longer than the time between two loops of one step, so that nobody sleeps in the middle of it.
constexpr auto SPIN = std::chrono::microseconds(100);
constexpr int MAX_THREADS = 256;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Pool {
public:
    void run(int threads, int64_t count, void (*work)(void*, int64_t), void* context) {
        std::unique_lock<std::mutex> mine(busy_, std::try_to_lock);
        if (!mine) {
            // Another engine of this process computes: alone is better than in line.
            for (int64_t i = 0; i < count; ++i) work(context, i);
            return;
        }
        grow(threads - 1);
        work_ = work;
        context_ = context;
        count_ = count;
        invited_ = threads - 1;
        next_.store(0);
        is_open_.store(true);
        epoch_.fetch_add(1);
        if (asleep_.load() > 0) syscall(SYS_futex, &epoch_, FUTEX_WAKE_PRIVATE, threads - 1, nullptr, nullptr, 0);
        take();
        is_open_.store(false);
        // Who is counted here has seen the loop open; who comes later sees it closed.
        while (inside_.load() > 0) pause();
    }

private:
    void grow(int workers) {
        while (workers_ < workers && workers_ < MAX_THREADS) {
            const int index = workers_++;
            std::thread([this, index] { serve(index); }).detach();
        }
    }

    void take() {
        for (int64_t i; (i = next_.fetch_add(1)) < count_;) work_(context_, i);
    }

    void serve(int index) {
        for (uint32_t seen = 0;;) {
            seen = wait(seen);
            inside_.fetch_add(1);
            if (is_open_.load() && index < invited_) take();
            inside_.fetch_sub(1);
        }
    }

    // Until the epoch is another one.
    uint32_t wait(uint32_t seen) {
        const auto until = std::chrono::steady_clock::now() + SPIN;
        do {
            for (int i = 0; i < 64; ++i) {
                const uint32_t now = epoch_.load();
                if (now != seen) return now;
                pause();
            }
        } while (std::chrono::steady_clock::now() < until);
        asleep_.fetch_add(1);
        while (epoch_.load() == seen) syscall(SYS_futex, &epoch_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
        asleep_.fetch_sub(1);
        return epoch_.load();
    }

    std::mutex busy_;
    int workers_ = 0;
    void (*work_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
    std::atomic<int64_t> count_{0};
    std::atomic<int> invited_{0};
    alignas(64) std::atomic<int64_t> next_{0};
    alignas(64) std::atomic<uint32_t> epoch_{0};
    std::atomic<int> asleep_{0};
    alignas(64) std::atomic<bool> is_open_{false};
    alignas(64) std::atomic<int> inside_{0};
};

}  // namespace

void run_parallel(int threads, int64_t count, void (*work)(void* context, int64_t item), void* context) {
    // Never destroyed: its threads live as long as the process.
    static Pool* const pool = new Pool;
    pool->run(threads, count, work, context);
}
