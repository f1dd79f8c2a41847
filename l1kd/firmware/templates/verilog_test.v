// Runs the events in test/inputs.hex through @TOP@ and compares every bit with test/outputs.hex.
//
// valid_in has random gaps with other bits on model_inp; @RESETS@ resets come while events are on their way, which
// then are sent again. valid_out is compared at every clock edge. PASSED is printed if nothing differs, and only
// then: `make test` looks for it. Written by l1kd.
`timescale 1 ns / 1 ps
module @TOP@_test;
    localparam EVENTS = @EVENTS@;
    localparam LATENCY = @LATENCY@;
    localparam RESETS = @RESETS@;
    localparam SHOWN = 10;  // differences that are printed

    reg clk, rst, valid_in, damaged;
    reg [@INPUT_BITS@ - 1:0] model_inp;
    reg [@INPUT_BITS@ - 1:0] inputs [0:EVENTS - 1];
    reg [@OUTPUT_BITS@ - 1:0] outputs [0:EVENTS - 1];
    wire valid_out;
    wire [@OUTPUT_BITS@ - 1:0] model_out;

    // Events in the pipeline by the number of edges since the one that sampled them; -1: none.
    integer held [0:LATENCY];
    integer next, done, wrong, resets, left, cycle, idle, i;
    reg [31:0] random;

    @TOP@ dut (
        .clk(clk), .rst(rst), .valid_in(valid_in), .model_inp(model_inp),
        .valid_out(valid_out), .model_out(model_out)
    );

    initial begin
        $readmemh("test/inputs.hex", inputs, 0, EVENTS - 1);
        $readmemh("test/outputs.hex", outputs, 0, EVENTS - 1);
        damaged = 0;
        for (i = 0; i < EVENTS; i = i + 1)
            if ((^inputs[i]) === 1'bx || (^outputs[i]) === 1'bx) damaged = 1;
        for (i = 0; i <= LATENCY; i = i + 1) held[i] = -1;
        clk = 0;
        next = 0;
        done = 0;
        wrong = 0;
        resets = 0;
        left = 2;  // edges of the reset
        cycle = 0;
        idle = 0;
        random = 32'h1CADA;
        while (idle <= LATENCY && !damaged) begin
            random = random ^ (random << 13);
            random = random ^ (random >> 17);
            random = random ^ (random << 5);
            if (left == 0 && resets < RESETS && next * (RESETS + 1) >= EVENTS * (resets + 1)) begin
                resets = resets + 1;
                left = 1 + (random[8] & random[9]);
                for (i = LATENCY - 1; i >= 0; i = i - 1)
                    if (held[i] >= 0 && held[i] < next) next = held[i];
            end
            rst = left > 0;
            // In a reset too, where it must not count.
            valid_in = next < EVENTS && random[1:0] != 0;
            model_inp = valid_in ? inputs[next] : ~inputs[next < EVENTS ? next : 0];
            #5 clk = 1;
            for (i = LATENCY; i > 0; i = i - 1) held[i] = rst ? -1 : held[i - 1];
            held[0] = valid_in && !rst ? next : -1;
            if (held[0] >= 0) next = next + 1;
            if (left > 0) left = left - 1;
            #4;
            i = held[LATENCY];
            if (valid_out !== (i >= 0)) begin
                wrong = wrong + 1;
                if (wrong <= SHOWN)
                    $display("edge %0d: expected valid_out %0d, found %b", cycle, i >= 0, valid_out);
            end else if (i >= 0 && model_out !== outputs[i]) begin
                wrong = wrong + 1;
                if (wrong <= SHOWN)
                    $display("edge %0d, event %0d: expected %h, found %h", cycle, i, outputs[i], model_out);
            end
            if (i >= 0) done = done + 1;
            if (done == EVENTS) idle = idle + 1;
            cycle = cycle + 1;
            #1 clk = 0;
        end
        if (damaged) $display("FAILED: test/inputs.hex or test/outputs.hex has not %0d events", EVENTS);
        else if (wrong > 0) $display("FAILED: @TOP@ differs at %0d of %0d clock edges", wrong, cycle);
        else $display("PASSED: @TOP@ equals the network in all bits of %0d events", EVENTS);
        $finish;
    end
endmodule
