// The C simulation of a written project as a filter: events in on the standard input, outputs out
// on the standard output, both as the raw bits of their ports (int64 counts of the LSB).
//
// It is compiled together with the project's own source, in one translation unit:
//   -DL1KD_SOURCE='"<top>.cpp"' -DL1KD_NAMESPACE=<namespace> -DL1KD_TOP=<top> -DL1KD_INPUTS=<n>
//   -DL1KD_OUTPUTS=<m>
// With arguments <layer>:<size> ... each event's outputs are followed by these layers' outputs as
// doubles, in the order of the arguments: `traced`, a copy of the top function, shows them. With
// --call <n> it is the n-th call of the top function that is run, alone, on the raw bits of the arrays
// that it reads.
//
// Ports are set from bits, not from a number that would be rounded: as hardware sees them.

#include "prelude.h"

#include "library.h"

namespace L1KD_NAMESPACE {
#include L1KD_SOURCE
#include "traced.h"
} // namespace L1KD_NAMESPACE

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

namespace l1kd {

void fail(const char *reason) {
    std::fprintf(stderr, "%s\n", reason);
    std::_Exit(3);
}

template <int W> bool is_signed(const ap_int<W> &) { return true; }
template <int W> bool is_signed(const ap_uint<W> &) { return false; }
template <int W, int I, ap_q_mode Q, ap_o_mode O, int N> bool is_signed(const ap_fixed<W, I, Q, O, N> &) { return true; }
template <int W, int I, ap_q_mode Q, ap_o_mode O, int N> bool is_signed(const ap_ufixed<W, I, Q, O, N> &) { return false; }

template <class T> void set(T &port, int64_t bits) { port.range(T::width - 1, 0) = bits; }

template <class T> int64_t get(T &port) {
    const uint64_t bits = port.range(T::width - 1, 0).to_uint64();
    const int spare = 64 - T::width;
    return is_signed(port) ? int64_t(bits << spare) >> spare : int64_t(bits);
}

// io_parallel: the top function takes arrays.
template <class X, class Y> void run(void (*top)(X *, Y *), const int64_t *in, int64_t *out) {
    static X x[L1KD_INPUTS];
    static Y y[L1KD_OUTPUTS];
    for (int i = 0; i < L1KD_INPUTS; i++)
        set(x[i], in[i]);
    top(x, y);
    for (int i = 0; i < L1KD_OUTPUTS; i++)
        out[i] = get(y[i]);
}

// io_stream: the top function takes streams of packs.
template <class X, class Y>
void run(void (*top)(hls::stream<X> &, hls::stream<Y> &), const int64_t *in, int64_t *out) {
    static hls::stream<X> x("input");
    static hls::stream<Y> y("output");
    for (int i = 0; i < L1KD_INPUTS; i += X::size) {
        X pack;
        for (unsigned j = 0; j < X::size; j++)
            set(pack[j], in[i + j]);
        x.write(pack);
    }
    top(x, y);
    for (int i = 0; i < L1KD_OUTPUTS; i += Y::size) {
        if (y.empty())
            fail("the output stream ended early");
        Y pack = y.read();
        for (unsigned j = 0; j < Y::size; j++)
            out[i + j] = get(pack[j]);
    }
    // What is left would be read as part of the next event.
    if (!x.empty() || !y.empty())
        fail("values are left in a port's stream after an event");
}

// What one call of the top function reads or writes, value by value.
template <class T> const int64_t *load(T *values, const int64_t *in, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        set(values[i], *in++);
    return in;
}

template <class T> const int64_t *load(hls::stream<T> &stream, const int64_t *in, unsigned count) {
    for (unsigned i = 0; i < count; i += T::size) {
        T pack;
        for (unsigned j = 0; j < T::size; j++)
            set(pack[j], *in++);
        stream.write(pack);
    }
    return in;
}

template <class T> int64_t *store(T *values, int64_t *out, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        *out++ = get(values[i]);
    return out;
}

template <class T> int64_t *store(hls::stream<T> &stream, int64_t *out, unsigned count) {
    for (unsigned i = 0; i < count; i += T::size) {
        if (stream.empty())
            fail("the output stream of a call ended early");
        T pack = stream.read();
        for (unsigned j = 0; j < T::size; j++)
            *out++ = get(pack[j]);
    }
    if (!stream.empty())
        fail("values are left in a call's output stream");
    return out;
}

struct call {
    void (*function)(const int64_t *in, int64_t *out);
    size_t inputs, outputs;
};

} // namespace l1kd

// Written from the project's own top function: each of its calls alone, and their table.
#include "calls.h"

static int run_call(size_t number, FILE *results) {
    if (number >= sizeof(l1kd_calls) / sizeof(l1kd_calls[0]) || !l1kd_calls[number].function)
        l1kd::fail("no call of that number can be run alone");
    const l1kd::call &one = l1kd_calls[number];
    std::vector<int64_t> in(one.inputs), out(one.outputs);
    while (std::fread(in.data(), sizeof(int64_t), one.inputs, stdin) == one.inputs) {
        one.function(in.data(), out.data());
        std::fwrite(out.data(), sizeof(int64_t), one.outputs, results);
    }
    return std::fclose(results) == 0 ? 0 : 4;
}

int main(int argc, char **argv) {
    // Library code prints warnings on the standard output: send them to the other one.
    FILE *results = fdopen(dup(STDOUT_FILENO), "wb");
    dup2(STDERR_FILENO, STDOUT_FILENO);

    if (argc == 3 && std::string(argv[1]) == "--call")
        return run_call(std::strtoul(argv[2], NULL, 10), results);

    std::vector<std::pair<double *, size_t> > layers;
    if (argc > 1) {
        nnet::trace_enabled = true;
        nnet::trace_outputs = new std::map<std::string, void *>;
    }
    for (int i = 1; i < argc; i++) {
        const char *colon = std::strrchr(argv[i], ':');
        if (!colon)
            l1kd::fail("an argument is not <layer>:<size>");
        const size_t size = std::strtoul(colon + 1, NULL, 10);
        double *values = static_cast<double *>(std::calloc(size, sizeof(double)));
        (*nnet::trace_outputs)[std::string(argv[i], colon - argv[i])] = values;
        layers.push_back(std::make_pair(values, size));
    }

    static int64_t in[L1KD_INPUTS], out[L1KD_OUTPUTS];
    size_t got;
    while ((got = std::fread(in, sizeof(int64_t), L1KD_INPUTS, stdin)) == L1KD_INPUTS) {
        for (size_t i = 0; i < layers.size(); i++)
            *layers[i].first = NAN;
        if (layers.empty())
            l1kd::run(L1KD_NAMESPACE::L1KD_TOP, in, out);
        else
            l1kd::run(L1KD_NAMESPACE::traced, in, out);
        std::fwrite(out, sizeof(int64_t), L1KD_OUTPUTS, results);
        for (size_t i = 0; i < layers.size(); i++) {
            if (std::isnan(*layers[i].first))
                l1kd::fail("a layer that was asked for is not shown by this project");
            std::fwrite(layers[i].first, sizeof(double), layers[i].second, results);
        }
    }
    if (got != 0)
        l1kd::fail("the last event is incomplete");
    return std::fclose(results) == 0 ? 0 : 4;
}
