#pragma once
// Asio and the libraries built on it, from rondo's tasks; and rondo as a place for them to run.
//
//     rondo::asio_context background;                             // an io_context and its thread
//     asio::steady_timer timer{background.get_executor(), 1s};
//     co_await timer.async_wait(rondo::use_task);                 // any operation, from any task
//
//     asio::co_spawn(rondo::asio_executor{rondo::this_scheduler()}, coroutine(), asio::detached);
//
// Needs the headers of standalone Asio, 1.22 or newer; nothing else of rondo does.

#include <rondo/asio/context.hpp>
#include <rondo/asio/executor.hpp>
#include <rondo/asio/stream.hpp>
#include <rondo/asio/use_task.hpp>
