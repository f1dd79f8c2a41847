# The clock of @TOP@ as a design of its own: @CLOCK@ ns. The pipeline was cut for this period by
# an estimate of delays; only the tool's timing report says that it is met. Where the design around it has
# constrained this clock already, leave this file out: there is nothing else to constrain, as every port
# but clk goes into or comes from registers within one cycle of the design around it.
create_clock -name clk -period @CLOCK@ [get_ports clk]
