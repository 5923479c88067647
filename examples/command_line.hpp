#pragma once
// The options of a program, for the examples and the benchmarks: one source compiles CLI11 for all
// of them.
//
//     int main(int argc, char** argv) {
//         unsigned n = 20;
//         command_line options{"fib", "Prints a Fibonacci number."};
//         options.add_number("--n", n, 1, 93, "which one");
//         if (const auto status = options.parse(argc, argv)) return *status;
//         ...

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

/// Every option writes to a variable of the caller's, which has to live until parse() has returned.
/// What the variable holds before is the default, and `--help` shows it.
class command_line {
public:
    command_line(std::string program, const std::string& about);
    command_line(const command_line&) = delete;
    command_line& operator=(const command_line&) = delete;
    ~command_line();

    void add_text(const std::string& name, std::string& value, const std::string& help);
    void add_choice(const std::string& name, std::string& value,
                    const std::vector<std::string>& choices, const std::string& help);
    void add_flag(const std::string& name, bool& value, const std::string& help);

    /// From `least` to `most`, both included. Number is std::uint16_t, int, unsigned, std::size_t
    /// or double.
    template <class Number>
    void add_number(const std::string& name, Number& value, std::type_identity_t<Number> least,
                    std::type_identity_t<Number> most, const std::string& help);

    /// Calls `use` with the option's text while parse() runs. The message of a
    /// std::invalid_argument that it throws becomes that of a mistake; parse() lets others through.
    void add_action(const std::string& name, std::function<void(const std::string&)> use,
                    const std::string& help);

    /// The option of this name, added before, must be given.
    void require(const std::string& name);

    /// Reads the arguments. Empty: the program goes on. Otherwise what main() returns now: 0 after
    /// --help, 2 after a mistake, which has become one line on standard error.
    [[nodiscard]] std::optional<int> parse(int argc, char** argv);

    /// Writes `program: what` as one line on standard error, and gives back `status`.
    int complain(std::string_view what, int status) const;

private:
    struct parser;
    std::unique_ptr<parser> parser_;
};
