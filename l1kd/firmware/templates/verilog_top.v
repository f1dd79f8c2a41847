`timescale 1 ns / 1 ps

// @TOP@: a network as a pipeline of registers and logic, written by l1kd.
//
// clk        Every register takes its rising edge.
// rst        Synchronous, active high. It clears valid_out and every valid on its way: events in the pipeline
//            are lost, and so is one that comes with it. Data registers have no reset and need none: while
//            valid_out is 0, model_out means nothing. Hold rst for one edge or more before the first event.
// valid_in   1: model_inp is an event, which this edge samples. 0: model_inp may be anything.
// model_inp  @INPUTS@; element i is bits [i * @INPUT_WORD@ +: @INPUT_WORD@], @INPUT_TYPE@:
//            @INPUT_KIND@.
//            @ORDER@.
// valid_out  1: model_out is the result of the event that was sampled LATENCY edges before.
// model_out  @OUTPUTS@; element i is bits [i * @OUTPUT_WORD@ +: @OUTPUT_WORD@], @OUTPUT_TYPE@:
//            @OUTPUT_KIND@.
//
// Latency: @EDGES@ from the one that samples an event to the one after which its result is shown.
// Interval: 1 clock cycle: an event may come with every edge. Nothing stalls: there is no ready.
module @TOP@ (
    input wire clk,
    input wire rst,
    input wire valid_in,
    /* verilator lint_off UNUSEDSIGNAL */
    input wire [@INPUT_BITS@ - 1:0] model_inp,
    /* verilator lint_on UNUSEDSIGNAL */
    output wire valid_out,
    output wire [@OUTPUT_BITS@ - 1:0] model_out
);
    localparam LATENCY = @LATENCY@;
    /* verilator lint_off UNUSEDPARAM */
    localparam INTERVAL = 1;
    /* verilator lint_on UNUSEDPARAM */

    reg [LATENCY:0] valid;
    wire [@INNER_INPUT_BITS@ - 1:0] inner_inp;
    wire [@INNER_OUTPUT_BITS@ - 1:0] inner_out;

    always @(posedge clk) begin
        if (rst) valid <= {(LATENCY + 1){1'b0}};
        else valid <= {valid[LATENCY - 1:0], valid_in};
    end

    assign valid_out = valid[LATENCY];
    @WIRES@

    @TOP@_core core (.clk(clk), .model_inp(inner_inp), .model_out(inner_out));
endmodule
