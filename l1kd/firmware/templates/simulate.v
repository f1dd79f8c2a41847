// Drives TOP: one event per clock cycle from events.hex; what the output shows after every clock edge
// goes to scores.hex. The input changes while the clock is low, well before the edge that samples it.
`timescale 1 ns / 1 ps
module l1kd_bench;
    reg clk = 0;
    reg [INPUT_BITS - 1:0] value;
    wire [OUTPUT_BITS - 1:0] shown;
    integer events, scores, count;

    TOP dut (.clk(clk), .model_inp(value), .model_out(shown));

    initial begin
        events = $fopen("events.hex", "r");
        scores = $fopen("scores.hex", "w");
        count = $fscanf(events, "%h\n", value);
        while (count == 1) begin
            #1 clk = 1;
            #1 $fwrite(scores, "%h\n", shown);
            clk = 0;
            count = $fscanf(events, "%h\n", value);
        end
        $fclose(scores);
        $finish(0);
    end
endmodule
