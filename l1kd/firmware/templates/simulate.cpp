// Drives a verilated TOP: one event per clock cycle from events.bin; what the output shows after every
// clock edge goes to scores.bin. Both hold the ports' bits, whole 32-bit words per event.
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
    std::vector<uint32_t> event(INPUT_WORDS), shown(OUTPUT_WORDS);
    std::FILE *events = std::fopen("events.bin", "rb"), *scores = std::fopen("scores.bin", "wb");
    if (!events || !scores)
        return 1;
    top->clk = 0;
    while (std::fread(event.data(), 4, event.size(), events) == event.size()) {
        std::memcpy(&top->model_inp, event.data(), sizeof top->model_inp);
        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
        std::memcpy(shown.data(), &top->model_out, sizeof top->model_out);
        if (std::fwrite(shown.data(), 4, shown.size(), scores) != shown.size())
            return 1;
    }
    top->final();
    return std::fclose(scores) ? 1 : 0;
}
