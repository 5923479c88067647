#pragma once
// What a runtime is made of.

#include <rondo/runtime/reactor/reactor_kind.hpp>

#include <chrono>

namespace rondo {

struct runtime_options {
    /// How many reactors, each with a scheduler and a thread. 0: one per usable core, which are
    /// those of the affinity mask, or fewer where a cgroup limits the processor time.
    unsigned reactors = 1;

    reactor_kind reactor = reactor_kind::automatic;

    /// Keeps each reactor's thread on a core of its own, in the order of the affinity mask; beyond
    /// that, round again. Worth it on a machine that does nothing else.
    bool pin_threads = false;

    /// Threads for offload(). They start when it is first called. 0: one per usable core.
    unsigned pool_threads = 0;

    /// How long a reactor with nothing to do looks for work before it sleeps. 0: not at all. It is
    /// quicker to answer than one that must be woken, by ten microseconds and more a request, and
    /// burns its core meanwhile; but it looks only while that has lately found something in time,
    /// so a server that nobody talks to costs nothing. 50 us suit a core that does nothing else.
    std::chrono::microseconds spin{0};

    /// The largest number of either that is accepted.
    static constexpr unsigned most_threads = 1024;
};

}  // namespace rondo
