// Drives TOP cycle by cycle: reset, valid and the input's bits from cycles.txt; what valid and the output show
// after every clock edge goes to shown.txt. Inputs change while the clock is low, well before the edge.
`timescale 1 ns / 1 ps
module l1kd_bench;
    reg clk = 0, rst, valid_in;
    reg [INPUT_BITS - 1:0] value;
    wire valid_out;
    wire [OUTPUT_BITS - 1:0] shown;
    integer cycles, out, count;

    TOP dut (
        .clk(clk), .rst(rst), .valid_in(valid_in), .model_inp(value), .valid_out(valid_out), .model_out(shown)
    );

    initial begin
        cycles = $fopen("cycles.txt", "r");
        out = $fopen("shown.txt", "w");
        count = $fscanf(cycles, "%b %b %h\n", rst, valid_in, value);
        while (count == 3) begin
            #1 clk = 1;
            #1 $fwrite(out, "%b %h\n", valid_out, shown);
            clk = 0;
            count = $fscanf(cycles, "%b %b %h\n", rst, valid_in, value);
        end
        $fclose(out);
        $finish(0);
    end
endmodule
