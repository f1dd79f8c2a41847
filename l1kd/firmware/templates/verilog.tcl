# Out-of-context synthesis of @TOP@ for @PART@: resources and timing before it is built in.
#
#     vivado -mode batch -source vivado.tcl
#
# Written by l1kd.
read_verilog [glob src/*.v src/static/*.v]
read_xdc @TOP@.xdc
synth_design -top @TOP@ -part @PART@ -mode out_of_context
report_utilization -file utilization.rpt
report_timing_summary -file timing.rpt
