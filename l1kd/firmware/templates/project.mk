# Builds the test bench with a C++ compiler alone and runs it: make test
# From elsewhere: make -C <this directory> test. Another compiler: make test CXX=clang++

TOP := @TOP@
CXXFLAGS ?= -O1
PARTS := $(wildcard firmware/*.cpp firmware/*.h firmware/weights/*.h firmware/nnet_utils/*.h \
	firmware/ap_types/*.h firmware/ap_types/*/*.h)

.PHONY: all test clean
all: $(TOP)_test

$(TOP)_test: $(TOP)_test.cpp $(PARTS)
	$(CXX) -std=c++14 $(CXXFLAGS) -fwrapv -w -Ifirmware/ap_types $(TOP)_test.cpp firmware/$(TOP).cpp -o $@

test: $(TOP)_test
	./$(TOP)_test

clean:
	rm -f $(TOP)_test
