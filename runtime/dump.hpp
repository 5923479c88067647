#pragma once
// Where every task is, and what it waits for: the stack traces of a program that is all coroutines.
//
//     rondo::dump_tasks(stderr);
//
//     task 1, running
//         examples/chat_server.cpp:81 main_task
//       group made at net/serve.hpp:96
//         task 7, waits for recv from 127.0.0.1:40312
//             io/buffered_reader.hpp:178 rondo::buffered_reader<rondo::tcp_stream>::read_more
//             examples/chat_server.cpp:40 talk

#include <rondo/runtime/core/detail/compiler.hpp>

#include <cstdio>
#include <source_location>

namespace rondo {

/// Writes all tasks of this thread's scheduler, as a tree by task group, then those that visit it.
/// Each comes with what it waits for and its asynchronous stack, innermost frame first: the line of
/// the await it is stopped at and the function's name. Works in release builds and in the middle of
/// anything; costs nothing until it is called. Nothing is written where no scheduler runs.
void dump_tasks(std::FILE* out, std::source_location where = std::source_location::current());

}  // namespace rondo
