static void run(const std::vector<long long> &in, size_t event, std::vector<long long> &out) {
    static input_t x[INPUTS];
    static output_t y[OUTPUTS];
    for (int i = 0; i < INPUTS; i++)
        set(x[i], in[event * INPUTS + i]);
    @TOP@(x, y);
    for (int i = 0; i < OUTPUTS; i++)
        out[i] = get(y[i]);
}
