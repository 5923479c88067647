#pragma once
// One connection of the load generator, as the engines see it: the request (or several that are
// sent together), how much of it is sent, how much of the answer has come, and whether it is right.
//
//     bench::load_client client{fd, index, bytes};
//     client.begin(load_clock::now());             // a new request, different from the last
//     client.sent(send(fd, client.unsent()...));
//     if (client.received(recv(fd, client.space()...))) ...    // complete, and verified

#include "latency_histogram.hpp"
#include "load_support.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

class load_client {
public:
    /// Owns fd from here on.
    load_client(int fd, unsigned index, std::size_t bytes, unsigned pipeline = 1)
        : fd_(fd),
          index_(index),
          bytes_(bytes),
          request_(bytes * pipeline),
          answer_(request_.size()) {
        for (std::size_t i = 0; i < request_.size(); ++i) {
            request_[i] = static_cast<unsigned char>(i * 31 + index * 7);
        }
    }
    load_client(const load_client&) = delete;
    load_client& operator=(const load_client&) = delete;
    ~load_client() { close(fd_); }

    int fd() const noexcept { return fd_; }
    load_clock::time_point started() const noexcept { return started_; }
    bool answered_once() const noexcept { return number_ > 1; }

    /// Makes the next request or requests; nothing of it is sent yet.
    void begin(load_clock::time_point now) noexcept {
        ++number_;
        for (std::size_t each = 0; each < request_.size(); each += bytes_) {
            std::memcpy(request_.data() + each, &number_, std::min(sizeof number_, bytes_));
        }
        sent_ = 0;
        received_ = 0;
        started_ = now;
    }

    std::span<const unsigned char> unsent() const noexcept {
        return std::span{request_}.subspan(sent_);
    }

    void sent(std::size_t bytes) noexcept { sent_ += bytes; }

    /// Where the rest of the answer goes.
    std::span<unsigned char> space() noexcept { return std::span{answer_}.subspan(received_); }

    /// Takes the result of a recv into space(), 0 being the end of the stream. True when the answer
    /// is complete; throws when the stream ended or the answer is not the request.
    bool received(std::size_t bytes) {
        if (bytes == 0) {
            throw std::runtime_error{"the server closed connection " + std::to_string(index_) +
                                     " during request " + std::to_string(number_)};
        }
        received_ += bytes;
        if (received_ < answer_.size()) {
            return false;
        }
        if (sent_ < request_.size() ||
            std::memcmp(answer_.data(), request_.data(), answer_.size()) != 0) {
            throw std::runtime_error{"the server answered wrong bytes to request " +
                                     std::to_string(number_) + " of connection " +
                                     std::to_string(index_)};
        }
        return true;
    }

    /// Ends the run because an operation on this connection failed.
    [[noreturn]] void fail(const char* operation, int error) const {
        fail_with(std::string{operation} + " on connection " + std::to_string(index_), error);
    }

private:
    int fd_;
    unsigned index_;
    std::size_t bytes_;
    std::uint64_t number_ = 0;
    std::size_t sent_ = 0;
    std::size_t received_ = 0;
    load_clock::time_point started_;
    std::vector<unsigned char> request_;
    std::vector<unsigned char> answer_;
};

/// What moves the bytes. Clients must outlive it.
class load_engine {
public:
    virtual ~load_engine() = default;

    virtual const char* name() const noexcept = 0;

    /// Sends the client's first request.
    virtual void start(load_client& client) = 0;

    /// Answers come in, are counted in `latencies`, and the next requests go out; returns soon
    /// after `end`, whatever the server does.
    virtual void run_until(load_clock::time_point end, latency_histogram& latencies) = 0;
};

}  // namespace bench
