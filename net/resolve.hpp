#pragma once
// From a host's name to its addresses.
//
//     for (const rondo::endpoint& peer : co_await rondo::resolve("localhost", 5566)) ...

#include <rondo/net/endpoint.hpp>
#include <rondo/runtime/core/task.hpp>

#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

namespace rondo {

/// Completes with the host's addresses for TCP, in the order in which they are to be tried (RFC
/// 6724), at least one. A numeric address is given back at once. So are [::1] and then 127.0.0.1
/// for `localhost` and names below it (RFC 6761, section 6.3), also where the machine has no IPv6.
/// Any other name is looked up by getaddrinfo(3) on a thread of its own, which is gone when this
/// completes. (For glibc the process has several threads from then on: malloc and system calls cost
/// a little more.)
/// Throws std::system_error of resolver_category: `resolve no.such.host: Name or service not
/// known`. A name that contains a NUL is unknown without a look-up. Where no thread can be started
/// it is a std::system_error as well: `resolve a.host: start a thread: Resource temporarily
/// unavailable`.
/// Cancellation: getaddrinfo cannot be interrupted, so the look-up is waited for; then
/// operation_cancelled. What needs no look-up is given all the same.
task<std::vector<endpoint>> resolve(std::string host, std::uint16_t port);

/// The codes are the EAI_ constants of getaddrinfo(3).
const std::error_category& resolver_category() noexcept;

}  // namespace rondo
