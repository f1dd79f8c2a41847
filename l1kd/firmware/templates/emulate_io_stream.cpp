    void compute() {
        // The network's code keeps its line buffers in static variables.
        static std::mutex one_at_a_time;
        const std::lock_guard<std::mutex> lock(one_at_a_time);
        hls::stream<events> x("x");
        hls::stream<scores> y("y");
        for (int i = 0; i < inputs; i += events::size) {
            events pack;
            for (unsigned j = 0; j < events::size; j++)
                set(pack[j], in[i + j]);
            x.write(pack);
        }
        @TOP@(x, y);
        for (int i = 0; i < outputs; i += scores::size) {
            scores pack = y.read();
            for (unsigned j = 0; j < scores::size; j++)
                out[i + j] = get(pack[j]);
        }
    }
