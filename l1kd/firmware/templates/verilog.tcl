# Out-of-context synthesis of @TOP@ for @PART@: resources and timing before it is built in.
#
#     vivado -mode batch -source vivado.tcl
#
# Reports come into build/. Written by l1kd.
file mkdir build
read_verilog [glob src/*.v src/static/*.v]
read_xdc @TOP@.xdc
synth_design -top @TOP@ -part @PART@ -mode out_of_context
report_utilization -file build/utilization.rpt
report_timing_summary -file build/timing.rpt
