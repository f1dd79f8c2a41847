#ifndef @NAMESPACE@_PORTS_H_
#define @NAMESPACE@_PORTS_H_
#include "defines.h"
template<class T> struct port_bits;
template<int W> struct port_bits<ap_int<W> > {
    static const int word = W, integer = W;
    static const bool is_signed = true;
};
template<int W> struct port_bits<ap_uint<W> > {
    static const int word = W, integer = W;
    static const bool is_signed = false;
};
template<int W, int I, ap_q_mode Q, ap_o_mode O, int N> struct port_bits<ap_fixed<W, I, Q, O, N> > {
    static const int word = W, integer = I;
    static const bool is_signed = true;
};
template<int W, int I, ap_q_mode Q, ap_o_mode O, int N> struct port_bits<ap_ufixed<W, I, Q, O, N> > {
    static const int word = W, integer = I;
    static const bool is_signed = false;
};
template<class T, unsigned N> struct port_bits<nnet::array<T, N> > : port_bits<T> {};
static_assert(port_bits<@INPUT_T@>::word == @INPUT_WORD@, "the input port is @INPUT_TEXT@");
static_assert(port_bits<@INPUT_T@>::integer == @INPUT_INTEGER@, "the input port is @INPUT_TEXT@");
static_assert(port_bits<@INPUT_T@>::is_signed == @INPUT_SIGNED@, "the input port is @INPUT_TEXT@");
static_assert(port_bits<@OUTPUT_T@>::word == @OUTPUT_WORD@, "the output port is @OUTPUT_TEXT@");
static_assert(port_bits<@OUTPUT_T@>::integer == @OUTPUT_INTEGER@, "the output port is @OUTPUT_TEXT@");
static_assert(port_bits<@OUTPUT_T@>::is_signed == @OUTPUT_SIGNED@, "the output port is @OUTPUT_TEXT@");
#endif
