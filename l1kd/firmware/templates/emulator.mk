# Builds the library anew, for example with the compiler of CMSSW: make CXX=...
# manifest.json then has its hash, by which l1kd's own loader knows it.

LIBRARY := @LIBRARY@
PARTS := $(shell find source include -type f)

.PHONY: all clean
all: $(LIBRARY)

$(LIBRARY): $(PARTS)
	$(CXX) @FLAGS@ \
	  @SOURCES@ -o $@
	sed -i.old -e 's/"sha256": "[0-9a-f]*"/"sha256": "'$$(sha256sum $@ | cut -c1-64)'"/' \
	  -e 's|"compiler": ".*"|"compiler": "'"$$($(CXX) --version | head -n 1)"'"|' manifest.json
	rm -f manifest.json.old

clean:
	rm -f $(LIBRARY)
