// The interface of trigger emulators: what a client that loads one at run time calls.
//
//     void *library = dlopen("lib<name>_<version>.so", RTLD_LAZY | RTLD_LOCAL);
//     auto *create = (hls4mlEmulator::Model * (*)()) dlsym(library, "create_model");
//     auto *destroy = (void (*)(hls4mlEmulator::Model *)) dlsym(library, "destroy_model");
//     hls4mlEmulator::Model *model = create();
//     model->prepare_input(event); // an array of <namespace>::emulator::input_t, as a pointer
//     model->predict();
//     model->read_result(result); // an array of <namespace>::emulator::result_t, as a pointer
//     destroy(model);
//
// The order of the functions is part of the interface. Where the client has a header of this
// interface already, define L1KD_EMULATOR_H_ and include that one.
#ifndef L1KD_EMULATOR_H_
#define L1KD_EMULATOR_H_

#include <any>

namespace hls4mlEmulator {

class Model {
  public:
    virtual void prepare_input(std::any event) = 0;
    virtual void predict() = 0;
    virtual void read_result(std::any result) = 0;
    virtual ~Model() = default;
};

} // namespace hls4mlEmulator

#endif
