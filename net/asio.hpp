#pragma once
// Another name of <rondo/asio.hpp>.

#include <rondo/asio.hpp>
