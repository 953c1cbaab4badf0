// A few threads that share the items of one loop after the other.
//
// Whoever calls works too, and at the end waits only for those who are in the middle of an item, never for those who
// have not come: on a machine where others take a core now and then, the loop is then slower by that core and no more. An
// OpenMP loop waits for all of its threads, and was seen twenty times slower.
#pragma once

#include <cstdint>

// Below this many numbers a second thread costs more than it helps.
constexpr int64_t ALONE = 1 << 15;

void run_parallel(int threads, int64_t count, void (*work)(void* context, int64_t item), void* context);

// Calls work(item) for every item below count, in any order, by at most so many threads.
template <typename Work>
void parallel_for(int threads, int64_t count, Work work) {
    if (threads <= 1 || count <= 1) {
        for (int64_t i = 0; i < count; ++i) work(i);
        return;
    }
    run_parallel(threads, count, [](void* context, int64_t item) { (*static_cast<Work*>(context))(item); }, &work);
}
