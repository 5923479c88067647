#include "command_line.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <utility>

struct command_line::parser : CLI::App {
    using CLI::App::App;
};

command_line::command_line(std::string program, const std::string& about)
    : parser_(std::make_unique<parser>(about, std::move(program))) {}

command_line::~command_line() = default;

void command_line::add_text(const std::string& name, std::string& value, const std::string& help) {
    parser_->add_option(name, value, help)->capture_default_str();
}

void command_line::add_choice(const std::string& name, std::string& value,
                              const std::vector<std::string>& choices, const std::string& help) {
    parser_->add_option(name, value, help)->check(CLI::IsMember(choices))->capture_default_str();
}

void command_line::add_flag(const std::string& name, bool& value, const std::string& help) {
    parser_->add_flag(name, value, help);
}

template <class Number>
void command_line::add_number(const std::string& name, Number& value,
                              std::type_identity_t<Number> least, std::type_identity_t<Number> most,
                              const std::string& help) {
    parser_->add_option(name, value, help)->check(CLI::Range(least, most))->capture_default_str();
}

template void command_line::add_number(const std::string&, std::uint16_t&, std::uint16_t,
                                       std::uint16_t, const std::string&);
template void command_line::add_number(const std::string&, int&, int, int, const std::string&);
template void command_line::add_number(const std::string&, unsigned&, unsigned, unsigned,
                                       const std::string&);
template void command_line::add_number(const std::string&, std::size_t&, std::size_t, std::size_t,
                                       const std::string&);
template void command_line::add_number(const std::string&, double&, double, double,
                                       const std::string&);

void command_line::add_action(const std::string& name, std::function<void(const std::string&)> use,
                              const std::string& help) {
    parser_->add_option_function<std::string>(
        name,
        [name, use = std::move(use)](const std::string& text) {
            try {
                use(text);
            } catch (const std::invalid_argument& error) {
                throw CLI::ValidationError(name, error.what());
            }
        },
        help);
}

void command_line::require(const std::string& name) { parser_->get_option(name)->required(); }

std::optional<int> command_line::parse(int argc, char** argv) {
    try {
        parser_->parse(argc, argv);
        return std::nullopt;
    } catch (const CLI::Success& help) {
        return parser_->exit(help);
    } catch (const CLI::ParseError& error) {
        return complain(error.what(), 2);
    }
}

int command_line::complain(std::string_view what, int status) const {
    std::string line{what};
    std::replace(line.begin(), line.end(), '\n', ' ');  // an argument may contain some
    std::cerr << parser_->get_name() << ": " << line << std::endl;
    return status;
}
