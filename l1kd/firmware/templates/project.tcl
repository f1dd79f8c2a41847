variable project_name
set project_name "@TOP@"
variable backend
set backend "@TOOL@"
variable part
set part "@PART@"
variable clock_period
set clock_period @PERIOD@
variable clock_uncertainty
set clock_uncertainty @UNCERTAINTY@
variable version
set version "1.0.0"
variable maximum_size
set maximum_size 4096
