// Runs l1kd_conv on the vectors in tb_data/ and compares every bit of every output with the expected one.
//
// Ends with 0 if all are equal, 1 if one differs, 2 if the vectors are missing or damaged. The
// directory of the vectors can be given as an argument. Written by l1kd.

#include "firmware/l1kd_conv.h"
#include "firmware/nnet_utils/nnet_helpers.h"
#include "firmware/ports.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

namespace l1kd_bench {

typedef events_t input_t;
typedef result_t output_t;
static const int INPUTS = 252, OUTPUTS = 1;
static const unsigned long SHOWN = 10; // differences that are printed

// Ports are set from bits, not from a number that would be rounded: as hardware sees them.
template <class T> static void set(T &port, long long bits) {
    port.range(port_bits<T>::word - 1, 0) = bits;
}

template <class T> static long long get(T &port) {
    const int spare = 64 - port_bits<T>::word;
    const unsigned long long bits = port.range(port_bits<T>::word - 1, 0).to_uint64();
    return port_bits<T>::is_signed ? (long long)(bits << spare) >> spare : (long long)bits;
}

static void run(const std::vector<long long> &in, size_t event, std::vector<long long> &out) {
    static input_t x[INPUTS];
    static output_t y[OUTPUTS];
    for (int i = 0; i < INPUTS; i++)
        set(x[i], in[event * INPUTS + i]);
    l1kd_conv(x, y);
    for (int i = 0; i < OUTPUTS; i++)
        out[i] = get(y[i]);
}

static int damaged(const std::string &path, unsigned long line, const char *reason) {
    std::printf("%s:%lu: %s; convert the student again\n", path.c_str(), line, reason);
    return 2;
}

// Reads one event per line; `changed` tells of numbers that are not those that were written.
template <class T>
static int read(const std::string &path, int values, std::vector<long long> &all, unsigned long &events, bool &changed) {
    const int word = port_bits<T>::word;
    const bool is_signed = port_bits<T>::is_signed;
    const long long low = is_signed ? -(1LL << (word - 1)) : 0;
    const long long high = is_signed ? (1LL << (word - 1)) - 1 : (1LL << word) - 1;
    std::ifstream file(path.c_str());
    std::string line;
    if (!file)
        return damaged(path, 0, "cannot be opened");
    unsigned long size = 0;
    if (!std::getline(file, line) ||
        std::sscanf(line.c_str(), "# l1kd vectors 1: %lu events of %lu integers", &events, &size) != 2)
        return damaged(path, 1, "no file of vectors");
    if (size != (unsigned long)values)
        return damaged(path, 1, "events of another size");
    if (events == 0)
        return damaged(path, 1, "no events");
    unsigned long long sum = 0;
    for (unsigned long event = 0; event < events; event++) {
        if (!std::getline(file, line))
            return damaged(path, event + 2, "ends early");
        const char *place = line.c_str();
        for (int i = 0; i < values; i++) {
            char *end = NULL;
            const long long value = std::strtoll(place, &end, 10);
            if (end == place || *end != (i + 1 < values ? ' ' : '\0'))
                return damaged(path, event + 2, "not the integers of one event");
            if (value < low || value > high)
                return damaged(path, event + 2, "an integer is outside of the port's range");
            all.push_back(value);
            sum = sum * 0x100000001b3ULL + (unsigned long long)value;
            place = end + 1;
        }
    }
    unsigned long long wanted = 0;
    if (!std::getline(file, line) || std::sscanf(line.c_str(), "# end %16llx", &wanted) != 1)
        return damaged(path, events + 2, "has no end");
    changed = wanted != sum;
    return 0;
}

static int bench(int argc, char **argv) {
    const std::string directory = argc > 1 ? argv[1] : "tb_data";
    const std::string input = directory + "/inputs.dat", output = directory + "/outputs.dat";
    std::vector<long long> in, expected, found(OUTPUTS);
    unsigned long events = 0, others = 0, wrong = 0, shown = 0;
    bool changed_in = false, changed_out = false;
    if (read<input_t>(input, INPUTS, in, events, changed_in) ||
        read<output_t>(output, OUTPUTS, expected, others, changed_out))
        return 2;
    if (events != others)
        return damaged(output, 1, "as many events as inputs.dat are needed");

#ifdef L1KD_LOG
    // build_prj.tcl compares these two files after both simulations.
#ifdef RTL_SIM
    std::ofstream log((directory + "/rtl_cosim_results.log").c_str());
#else
    std::ofstream log((directory + "/csim_results.log").c_str());
#endif
#endif

    for (unsigned long event = 0; event < events; event++) {
        run(in, event, found);
        bool equal = true;
        for (int i = 0; i < OUTPUTS; i++) {
            const long long wanted = expected[event * OUTPUTS + i];
#ifdef L1KD_LOG
            log << found[i] << (i + 1 < OUTPUTS ? ' ' : '\n');
#endif
            if (found[i] == wanted)
                continue;
            equal = false;
            if (shown++ < SHOWN)
                std::printf("event %lu, output %d: expected %lld, found %lld (in steps of the port)\n", event, i,
                            wanted, found[i]);
        }
        wrong += !equal;
    }
    if (changed_in)
        return damaged(input, events + 2, "numbers were changed: the checksum differs");
    if (changed_out)
        return damaged(output, events + 2, "numbers were changed: the checksum differs");
    if (wrong) {
        std::printf("FAILED: l1kd_conv differs in %lu of %lu events\n", wrong, events);
        return 1;
    }
    std::printf("PASSED: l1kd_conv equals the network in all bits of %lu events\n", events);
    return 0;
}

} // namespace l1kd_bench

int main(int argc, char **argv) { return l1kd_bench::bench(argc, argv); }
