    void compute() {
        events x[inputs];
        scores y[outputs];
        for (int i = 0; i < inputs; i++)
            set(x[i], in[i]);
        @TOP@(x, y);
        for (int i = 0; i < outputs; i++)
            out[i] = get(y[i]);
    }
