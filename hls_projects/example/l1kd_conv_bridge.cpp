#ifndef L1KD_CONV_BRIDGE_H_
#define L1KD_CONV_BRIDGE_H_

#include "firmware/l1kd_conv.h"
#include "firmware/nnet_utils/nnet_helpers.h"
#include <algorithm>
#include <map>

// hls-fpga-machine-learning insert bram

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

extern "C" {

struct trace_data {
    const char *name;
    void *data;
};

void allocate_trace_storage(size_t element_size) {
    nnet::trace_enabled = true;
    nnet::trace_outputs = new std::map<std::string, void *>;
    nnet::trace_type_size = element_size;
    nnet::trace_outputs->insert(std::pair<std::string, void *>("conv1", (void *) malloc(9*7*4 * element_size)));
    nnet::trace_outputs->insert(std::pair<std::string, void *>("conv1_relu", (void *) malloc(9*7*4 * element_size)));
    nnet::trace_outputs->insert(std::pair<std::string, void *>("dense1", (void *) malloc(16 * element_size)));
    nnet::trace_outputs->insert(std::pair<std::string, void *>("dense1_relu", (void *) malloc(16 * element_size)));
    nnet::trace_outputs->insert(std::pair<std::string, void *>("output", (void *) malloc(1 * element_size)));
    nnet::trace_outputs->insert(std::pair<std::string, void *>("score", (void *) malloc(1 * element_size)));
}

void free_trace_storage() {
    for (std::map<std::string, void *>::iterator i = nnet::trace_outputs->begin(); i != nnet::trace_outputs->end(); i++) {
        void *ptr = i->second;
        free(ptr);
    }
    nnet::trace_outputs->clear();
    delete nnet::trace_outputs;
    nnet::trace_outputs = NULL;
    nnet::trace_enabled = false;
}

void collect_trace_output(struct trace_data *c_trace_outputs) {
    int ii = 0;
    for (std::map<std::string, void *>::iterator i = nnet::trace_outputs->begin(); i != nnet::trace_outputs->end(); i++) {
        c_trace_outputs[ii].name = i->first.c_str();
        c_trace_outputs[ii].data = i->second;
        ii++;
    }
}

// hls-fpga-machine-learning insert tb_input_writer

// Wrapper of top level function for Python bridge
void l1kd_conv_float(
    float *events,
    float *layer12_out
) {
    using namespace l1kd_conv_vcab00548;

    events_t events_ap[18*14*1];
    nnet::convert_data<float, events_t, 18*14*1>(events, events_ap);

    result_t layer12_out_ap[1];

    l1kd_conv(events_ap,layer12_out_ap);

    nnet::convert_data<result_t, float, 1>(layer12_out_ap, layer12_out);
}

void l1kd_conv_double(
    double *events,
    double *layer12_out
) {
    using namespace l1kd_conv_vcab00548;

    events_t events_ap[18*14*1];
    nnet::convert_data<double, events_t, 18*14*1>(events, events_ap);

    result_t layer12_out_ap[1];

    l1kd_conv(events_ap,layer12_out_ap);

    nnet::convert_data<result_t, double, 1>(layer12_out_ap, layer12_out);
}
}

#endif
