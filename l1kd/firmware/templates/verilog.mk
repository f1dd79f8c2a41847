# Simulates the Verilog on the events in test/ and fails if a single bit differs: make test
# With Icarus Verilog if it is on the PATH, else with Verilator 5; to choose: make test SIM=verilator

TOP := @TOP@
SOURCES := $(wildcard src/*.v src/static/*.v) test/$(TOP)_test.v
FOUND := $(foreach name,iverilog verilator,$(if $(shell command -v $(name) 2>/dev/null),$(name)))
SIM ?= $(firstword $(FOUND) none)

.PHONY: test iverilog verilator none clean
test: $(SIM)
	@cat build/said
	@grep -q '^PASSED: ' build/said

iverilog:
	@rm -rf build
	@mkdir build
	iverilog -g2005 -s $(TOP)_test -o build/$@ $(SOURCES)
	vvp -n build/$@ > build/said

verilator:
	@rm -rf build
	@mkdir build
	verilator --binary --timing -Wno-fatal -Wno-lint -Wno-style -CFLAGS "-std=c++20 -O0" --top-module $(TOP)_test \
		--Mdir build/$@ -o run $(SOURCES)
	build/$@/run > build/said

none:
	@echo "no Verilog simulator is on the PATH: apt install iverilog, or get Verilator 5" >&2
	@false

clean:
	rm -rf build
