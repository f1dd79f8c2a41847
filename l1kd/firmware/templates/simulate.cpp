// Drives a verilated TOP cycle by cycle from cycles.bin; what its outputs show after every clock edge goes to
// shown.bin. Both hold 32-bit words: reset and twice valid, or valid, then the port's bits.
#include "VTOP.h"
#include "verilated.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

double sc_time_stamp() { return 0; }

int main() {
    const auto context = std::make_unique<VerilatedContext>();
    const auto top = std::make_unique<VTOP>(context.get());
    std::vector<uint32_t> given(1 + INPUT_WORDS), shown(1 + OUTPUT_WORDS);
    std::FILE *cycles = std::fopen("cycles.bin", "rb"), *out = std::fopen("shown.bin", "wb");
    if (!cycles || !out)
        return 1;
    top->clk = 0;
    while (std::fread(given.data(), 4, given.size(), cycles) == given.size()) {
        top->rst = given[0] & 1;
        top->valid_in = given[0] >> 1;
        std::memcpy(&top->model_inp, &given[1], sizeof top->model_inp);
        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
        shown[0] = top->valid_out;
        std::memcpy(&shown[1], &top->model_out, sizeof top->model_out);
        if (std::fwrite(shown.data(), 4, shown.size(), out) != shown.size())
            return 1;
    }
    top->final();
    return std::fclose(out) ? 1 : 0;
}
