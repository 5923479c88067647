// Each line with a comment that begins with `says`, or below such a comment, is a mistake. The
// first thing that the compiler says of it contains what stands in the comment; where that names a
// compiler, with that compiler only. mistakes.py checks it; nothing else compiles this file.
// clang-format off

#include <rondo/rondo.hpp>

using namespace rondo;
using namespace std::chrono_literals;

struct server {
    task<> talk(tcp_stream peer);
    task<> work();
};

task<int> number();
void plain();

// --- what is awaited by nobody -------------------------------------------------------------------

task<> awaits_nothing(tcp_stream& stream, tcp_listener& listener, std::span<std::byte> space,
                      std::string host, scheduler& other, thread_pool& pool) {
    tcp_stream::connect(endpoint{});                     // says: without co_await nothing happens
    tcp_stream::connect(host, 1);                        // says: without co_await nothing happens
    stream.read_some(space);                             // says: without co_await nothing happens
    stream.receive();                                    // says: without co_await nothing happens
    stream.read_exactly(space);                          // says: without co_await nothing happens
    stream.write_some(space);                            // says: without co_await nothing happens
    stream.write_all("x");                               // says: without co_await nothing happens
    stream.write_all("x", "y");                          // says: without co_await nothing happens
    stream.wait_hangup();                                // says: without co_await nothing happens
    listener.accept();                                   // says: without co_await nothing happens
    poll_fd(0, 1);                                       // says: without co_await nothing happens
    sleep_for(1s);                                       // says: without co_await nothing happens
    sleep_until({});                                     // says: without co_await nothing happens
    yield();                                             // says: without co_await nothing happens
    resume_on(other);                                    // says: without co_await nothing happens
    number();                                            // says: without co_await nothing happens
    offload(plain);                                      // says: without co_await nothing happens
    with_timeout(1s, number());                          // says: without co_await nothing happens
    shield(number());                                    // says: without co_await nothing happens
    as_result(stream.read_some(space));                  // says: without co_await nothing happens
    as_result(number());                                 // says: without co_await nothing happens
    when_all(number());                                  // says: without co_await nothing happens
    when_any(number());                                  // says: without co_await nothing happens
    wait_signal({SIGTERM});                              // says: without co_await nothing happens
    resolve(host, 1);                                    // says: without co_await nothing happens
    // says: without co_await nothing happens
    serve(listener, [](tcp_stream) -> task<> { co_return; });
    // says: without co_await nothing happens
    with_task_group([](task_group&) -> task<> { co_return; });
    // says: without co_await nothing happens
    with_cancel_scope([](cancel_scope&) -> task<> { co_return; });
    // says: without co_await nothing happens
    on_each_reactor([](std::size_t) -> task<> { co_return; });
    task_group group;
    group.join();                                        // says: without co_await nothing happens
    std::vector<int> numbers;
    std::vector<future<int>> futures;
    auto results = pool.map(std::negate<int>{}, numbers);
    auto unordered = pool.map_unordered(std::negate<int>{}, numbers);
    auto order = as_completed(futures);
    results.next();                                      // says: without co_await nothing happens
    unordered.next();                                    // says: without co_await nothing happens
    order.next();                                        // says: without co_await nothing happens
    // says: without co_await or get() nothing happens
    wait(futures);
    async_generator<int> items = []() -> async_generator<int> { co_yield 1; }();
    items.next();                                        // says: without co_await nothing happens
    buffered_reader<tcp_stream> reader{stream};
    reader.read_line(80);                                // says: without co_await nothing happens
    reader.read_until('\0', 80);                         // says: without co_await nothing happens
    reader.read_exactly(80);                             // says: without co_await nothing happens
    co_return;
}

task<> waits_for_nothing() {
    mutex one;
    recursive_mutex recursive;
    shared_mutex shared;
    semaphore permits{1};
    event set;
    latch open{1};
    barrier all{1};
    condition_variable changed;
    once first;
    capacity_limiter few{1};
    rate_limiter rate{1, 1s};
    channel<int> items{1};
    queue<int> jobs{1};
    broadcast<int> news{1};
    watch<int> value{1};
    int item = 0;
    one.lock();                                          // says: without co_await nothing happens
    recursive.lock();                                    // says: without co_await nothing happens
    shared.lock();                                       // says: without co_await nothing happens
    shared.lock_shared();                                // says: without co_await nothing happens
    permits.acquire();                                   // says: without co_await nothing happens
    set.wait();                                          // says: without co_await nothing happens
    open.wait();                                         // says: without co_await nothing happens
    open.arrive_and_wait();                              // says: without co_await nothing happens
    all.arrive_and_wait();                               // says: without co_await nothing happens
    auto held = co_await one.lock();
    changed.wait(held);                                  // says: without co_await nothing happens
    changed.wait(held, [] { return true; });             // says: without co_await nothing happens
    first.call([]() -> task<> { co_return; });           // says: without co_await nothing happens
    few.acquire();                                       // says: without co_await nothing happens
    rate.acquire();                                      // says: without co_await nothing happens
    items.send(1);                                       // says: without co_await nothing happens
    items.send_from(item);                               // says: without co_await nothing happens
    items.receive();                                     // says: without co_await nothing happens
    jobs.put(1);                                         // says: without co_await nothing happens
    jobs.get();                                          // says: without co_await nothing happens
    jobs.join();                                         // says: without co_await nothing happens
    auto listener = news.subscribe();
    listener.receive();                                  // says: without co_await nothing happens
    auto watcher = value.subscribe();
    watcher.next();                                      // says: without co_await nothing happens
    select(items.receive());                             // says: without co_await nothing happens
}

// --- what is not called, or not awaited, as it is written ----------------------------------------

void runs_a_function() {
    run(plain);  // says: run: give it a task, or a callable that returns one
}

void spawns_a_function(task_group& group) {
    group.spawn(plain);  // says: What is spawned must be a coroutine that returns a task
}

void spawns_a_void_lambda(task_group& group, std::string text) {
    group.spawn([text] {});  // says: What is spawned must be a coroutine that returns a task
}

void spawns_a_function_with_a_name(task_group& group) {
    // says: What is spawned must be a coroutine that returns a task
    group.spawn(task_name{"work"}, [] {});
}

void spawns_a_member_function(task_group& group) {
    group.spawn(&server::work);  // says: (A member function takes its object as the first argument
}

void spawns_a_function_elsewhere(task_group& group, scheduler& other) {
    group.spawn_on(other, [] {});  // says: What is spawned must be a coroutine that returns a task
}

task<> serves_with_void(tcp_listener& listener) {
    co_await serve(listener, [](tcp_stream) {});  // says: serve: the handler must be a coroutine
}

task<> serves_with_another_parameter(tcp_listener& listener) {
    // says: serve: the handler cannot be called
    co_await serve(listener, [](int) -> task<> { co_return; });
}

task<> serves_with_a_member_function(tcp_listener& listener) {
    co_await serve(listener, &server::talk);  // says: (A member function is called inside a lambda
}

task<> serves_with_a_result(tcp_listener& listener) {
    // says: what another task gives would be lost
    co_await serve(listener, [](tcp_stream) -> task<int> { co_return 1; });
}

task<> groups_with_void() {
    // says: with_task_group: f(group, args...) must be a coroutine
    co_await with_task_group([](task_group&) {});
}

task<> scopes_with_void() {
    // says: with_cancel_scope: f(scope, args...) must be a coroutine
    co_await with_cancel_scope([](cancel_scope&) {});
}

task<> every_reactor_with_void() {
    // says: on_each_reactor: f(index, args...) must be a coroutine
    co_await on_each_reactor([](std::size_t) {});
}

task<> once_with_a_result(once& flag) {
    // says: once::call: f(args...) must be a coroutine that returns task<>
    co_await flag.call(number);
}

task<> offloads_with_a_parameter() {
    co_await offload([](int) {});  // says: offload: f cannot be called as f(args...)
}

task<> selects_an_accept(tcp_listener& listener, channel<int>& items) {
    // says: select: one of the cases cannot be taken back
    auto next = select(items.receive(), listener.accept());
    co_return;
}

// --- what is not rondo's -------------------------------------------------------------------------

struct others_awaiter {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const;
    void await_resume() const noexcept {}
};

task<> limits_a_foreign_awaiter() {
    co_await with_timeout(1s, std::suspend_always{});  // says: A task cannot await this.
}

task<> races_a_foreign_awaiter() {
    const others_awaiter foreign;
    co_await when_any(foreign, sleep_for(1s));  // says: A task cannot await this.
}

void spawns_a_foreign_awaiter(task_group& group) {
    struct another : others_awaiter {};
    group.spawn(another{});  // says: A task cannot await this.
}

task<> awaits_a_foreign_awaiter() {
    struct another : others_awaiter {};
    co_await another{};  // says (clang): A task cannot await this.
}

// --- what g++ 12 destroys twice ------------------------------------------------------------------

task<> captures_in_offload(std::string text) {
    co_await offload([text] {});  // says (g++ 12): g++ 12 destroys the captures of a lambda twice
}

task<> captures_in_a_group(std::string text) {
    // says (g++ 12): g++ 12 destroys the captures
    co_await with_task_group([text](task_group&) -> task<> { co_return; });
}

task<> captures_in_a_scope(std::string text) {
    // says (g++ 12): g++ 12 destroys the captures
    co_await with_cancel_scope([text](cancel_scope&) -> task<> { co_return; });
}

task<> captures_in_serve(tcp_listener& listener, std::string text) {
    // says (g++ 12): g++ 12 destroys the captures
    co_await serve(listener, [text](tcp_stream) -> task<> { co_return; });
}

task<> captures_on_each_reactor(std::string text) {
    // says (g++ 12): g++ 12 destroys the captures
    co_await on_each_reactor([text](std::size_t) -> task<> { co_return; });
}

task<> captures_in_once(once& flag, std::string text) {
    // says (g++ 12): g++ 12 destroys the captures
    co_await flag.call([text]() -> task<> { co_return; });
}

task<> captures_in_a_predicate(condition_variable& changed, mutex::guard& held, std::string text) {
    // says (g++ 12): g++ 12 destroys the captures
    co_await changed.wait(held, [text] { return true; });
}
