static void run(const std::vector<long long> &in, size_t event, std::vector<long long> &out) {
    hls::stream<input_t> x("x");
    hls::stream<output_t> y("y");
    for (int i = 0; i < INPUTS; i += input_t::size) {
        input_t pack;
        for (unsigned j = 0; j < input_t::size; j++)
            set(pack[j], in[event * INPUTS + i + j]);
        x.write(pack);
    }
    @TOP@(x, y);
    for (int i = 0; i < OUTPUTS; i += output_t::size) {
        output_t pack = y.read();
        for (unsigned j = 0; j < output_t::size; j++)
            out[i + j] = get(pack[j]);
    }
}
