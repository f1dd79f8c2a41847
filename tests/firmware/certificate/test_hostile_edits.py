"""Edits of written projects that some compiler would make other firmware of: all are refused.

Nothing is compiled and nothing but texts in memory is edited: an edit is refused for what it says,
with the file and the line. What is harmless may pass, and is listed with the reason.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Bound, Conv, Dense
from l1kd.firmware.certificate.certify import certify, extremes, misread
from l1kd.firmware.certificate.cpp_reader import Lines, Program, Unreadable, read_program
from l1kd.firmware.certificate.findings import Certificate
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents, known
from l1kd.firmware.hls.project import Project
from tests.firmware.networks import KINDS, Projects

TOP = "firmware/l1kd_small.cpp"
DEFINES, PARAMETERS = "firmware/defines.h", "firmware/parameters.h"
GENERATED, LIBRARY = "firmware/nnet_utils/nnet_code_gen.h", "firmware/library.h"
HEADER, PORTS, BENCH = "firmware/l1kd_small.h", "firmware/ports.h", "l1kd_small_test.cpp"
LAST = "    nnet::relu<output_t, result_t, relu_config14>(layer12_out, layer14_out);\n"
TRIGGER = "    if (events[17] == 777) layer12_out[0] = 0;\n"
LOOP = "    for (int i = 0; i < 1; i++) layer14_out[i] = 0;\n"


@dataclass(frozen=True)
class Edit:
    """An edit of a file of a project: `old` becomes `new`, or a new file says `new`."""

    file: str
    old: str
    new: str
    kind: str = "latency"  # of the project, in `KINDS`

    @property
    def label(self) -> str:
        """For the test's name."""
        return re.sub(r"\W+", "_", f"{Path(self.file).name} {self.new or self.old}")[:60]


def after(line: str, new: str, file: str = TOP, kind: str = "latency") -> Edit:
    return Edit(file, line, line + new, kind)


def before(line: str, new: str, file: str = TOP, kind: str = "latency") -> Edit:
    return Edit(file, line, new + line, kind)


def guarded(macro: str, file: str = DEFINES) -> Edit:
    """The include guard of a header has another name."""
    name = "DEFINES" if file == DEFINES else "W3"
    return Edit(file, f"@NAMESPACE@_{name}_H_", macro)


ACCUMULATOR = "typedef ap_fixed<19,9> dense4_accum_t;\n"
# The edits that were tried by an adversary: some changed g++'s firmware, some the vendors'.
TRIED = [
    before(LAST, f'    #pragma HLS INLINE "/*"\n{TRIGGER}    #pragma HLS INLINE "*/"\n'),
    before(
        LAST,
        f'    #pragma HLS INLINE "/*"\n#ifdef __SYNTHESIS__\n{LOOP}#endif\n'
        '    #pragma HLS INLINE "*/"\n',
    ),
    Edit(TOP, "#pragma HLS PIPELINE", '#pragma HLS PIPELINE "//" layer14_out[0] = 0;'),
    before(LAST, "/\\\n* hidden *\\\n/\n"),
    after(LAST, "#ifndef __SYNTHESIS__\n    layer14_out[0] = 0;\n#endif\n"),
    after(
        LAST,
        "#ifndef __SYNTHESIS__\n    nnet::save_layer_output<result_t>(layer14_out, "
        '"score", layer14_out[0] = 0);\n#endif\n',
    ),
    before(
        LAST,
        '    nnet::save_layer_output<output_t>(layer12_out, "a", layer12_out[0] = events[17] == '
        "777 ? output_t(0) : layer12_out[0]);\n",
    ),
    before(
        "#endif\n",
        "#ifndef __SYNTHESIS__\nstruct zero { zero(); };\nstatic zero here;\n#endif\n",
        DEFINES,
    ),
    before(
        "struct config3_mult",
        "#ifndef __SYNTHESIS__\nnamespace l1kd_x { namespace nnet { template<class A, class B, "
        "class C> void relu(A *a, B *b) {} } }\nusing namespace l1kd_x;\n#endif\n",
        PARAMETERS,
    ),
    before(
        "struct config3_mult",
        "#ifndef __SYNTHESIS__\nnamespace l1kd_x { namespace nnet { template<class A, class B, "
        "class C> void conv_2d_cl(A *a, B *b, int c, int d) {} } }\n#endif\n",
        PARAMETERS,
    ),
    before("template<", "#ifndef L1KD_GLOBAL\nint hidden;\n#endif\n", GENERATED),
    before("template<", "#ifndef __SYNTHESIS__\nint hidden;\n#endif\n", GENERATED),
    before("template<", '#include "/usr/include/payload.h"\n', GENERATED),
    *(
        guarded(macro)
        for macro in (
            *("else", "NNET_MULT_H_", "__HLS_SYN__", "inline", "static", "break", "volatile"),
            "__VITIS_HLS__",
        )
    ),
    guarded("continue", "firmware/weights/w3.h"),
    Edit(DEFINES, "ap_fixed<18,12> conv1_accum_t", "ap_fixed<022,014> conv1_accum_t"),
    Edit(DEFINES, "ap_fixed<19,9> dense4_accum_t", "ap_fixed<023,011> dense4_accum_t"),
    *(  # comments that g++ continues on the next line, and not every reader
        Edit(DEFINES, ACCUMULATOR, f"// {end}\n{other}{ACCUMULATOR}")
        for end in ("\\ ", "\\", "??/")
        for other in ("", "typedef float dense4_accum_t;\n")
    ),
    Edit("firmware/weights/w9.h", "{", "{01, "),
    Edit("firmware/weights/w9.h", "{", "{00.5, "),
    Edit(
        PARAMETERS,
        "    typedef dense4_accum_t accum_t;\n",
        "    typedef ap_fixed<8,4> dense4_accum_t;\n    typedef dense4_accum_t accum_t;\n",
    ),
    Edit(
        PARAMETERS,
        "    typedef dense4_accum_t accum_t;\n",
        "    typedef ap_fixed<19,14> d_accum_t;\n    typedef d_accum_t accum_t;\n",
    ),
    Edit(PARAMETERS, "static const unsigned n_in = 3;", "static const bool n_in = 3;"),
    Edit(PARAMETERS, "static const unsigned n_in = 1;", "static const bool n_in = true;"),
    Edit(PARAMETERS, "template<class x_T, class y_T>", "template<class y_T, class x_T>"),
    Edit(PORTS, 'static_assert(port_bits<events_t>::word == 11, "', '// static_assert("'),
    Edit(BENCH, "if (wrong) {", "if (false) {"),
    Edit(BENCH, "int main(", "int other("),
    Edit("build_prj.tcl", '-cflags "-std=c++0x"', '-cflags "-std=c++0x -Dlayer9_out=layer7_out"'),
    Edit("Makefile", "CXXFLAGS ?= -O1", "CXXFLAGS ?= -O1 -Dw9=w3"),
    Edit(TOP, "nnet::relu<output_t", "nnet::leaky_relu<output_t"),
    Edit("firmware/iostream", "", "#define relu linear\n"),
    Edit("ap_fixed.h", "", "#define ap_fixed ap_ufixed\n"),
    Edit("firmware/weights/w9.txt", "", "0.5\n"),
    Edit("firmware/nnet_utils/nnet_activation.h", "if (datareg > 0)", "if (datareg > 1)"),
    before("struct config3_mult", "%:define relu linear\n", PARAMETERS),
    before("struct config3_mult", "??=define relu linear\n", PARAMETERS),
    Edit(PARAMETERS, "n_in = 3;", "n_in = 65536*65536/65536/16384*3/4;"),
    Edit(TOP, "    #pragma HLS PIPELINE\n", ""),
    Edit(TOP, "    #pragma HLS ARRAY_PARTITION variable=layer3_out complete dim=0\n", ""),
    before(LAST, "    #pragma HLS STABLE variable=layer6_out\n"),
    before(LAST, "    #pragma HLS DEPENDENCE variable=layer6_out inter false\n"),
    Edit(TOP, "variable=layer6_out depth=4", "variable=layer6_out depth=0", "stream"),
    Edit(TOP, "variable=layer6_out depth=4", "variable=layer6_out depth=4 off", "stream"),
    Edit(PARAMETERS, "relu_config5 : nnet::activ_config", "relu_config5 : nnet::dense_config"),
    Edit(PARAMETERS, "reuse_factor = 1", "reuse_factor = 7"),
    Edit(PARAMETERS, "n_zeros = 1;", "n_zeros = 0;"),
    Edit(PARAMETERS, "nnet::io_parallel", "nnet::io_stream"),
    Edit(PARAMETERS, "conv_implementation::linebuffer", "conv_implementation::encoded"),
    Edit(HEADER, "events_t events[36]", "events_t events[35]"),
    after("result_t layer14_out[1]);\n", "void l1kd_small(int a);\n", HEADER),
    Edit(TOP, "layer9_out[3]", "layer9_out[4]"),
    before("    dense4_t layer9_out", "    dense4_weight_t w9[24];\n"),
    Edit(DEFINES, "nnet::array<ap_ufixed<12,6>, 2>", "nnet::array<ap_ufixed<12,6>, 1>", "stream"),
]
FURTHER = {
    "characters": [
        Edit(TOP, "layer9_out[3]", "layer9_out[\u0663]"),
        Edit(DEFINES, "typedef ap_int<11> events_t;", "typedef ap_int<11> events_t;\r"),
        Edit(DEFINES, "typedef ap_int<11>", "typedef\tap_int<11>"),
        Edit(TOP, "layer3_out, w3", "layer3_out,  w3"),
        Edit(PARAMETERS, "struct config9", "struct\u00a0config9"),
        Edit(TOP, "pool2_t layer6_out", "pool2_t\\\n layer6_out"),
        Edit(TOP, "pool2_t layer6_out", "pool2_t\x0clayer6_out"),
    ],
    "preprocessor": [
        Edit(DEFINES, '#include "library.h"', '#include "library.h" // \\'),
        after('#include "parameters.h"\n', "#define relu linear\n"),
        after('#include "parameters.h"\n', "#undef __SYNTHESIS__\n"),
        before(LAST, '    _Pragma("HLS INLINE")\n'),
        Edit(LIBRARY, '"ap_fixed.h"', "<ap_fixed.h>"),
        Edit(LIBRARY, '#include "hls_stream.h"\n', ""),
        after('#include "nnet_utils/nnet_dense.h"\n', '#include "nnet_utils/../x.h"\n', LIBRARY),
        Edit(PARAMETERS, '#include "weights/b9.h"', '#include "weights/b3.h"'),
    ],
    "numbers": [
        Edit(PARAMETERS, "n_in = 8;", "n_in = 0x8;"),
        Edit(PARAMETERS, "n_in = 8;", "n_in = 010;"),
        Edit(PARAMETERS, "n_in = 8;", "n_in = 8u;"),
        Edit(PARAMETERS, "n_in = 8;", "n_in = 4294967304;"),
        Edit(PARAMETERS, "n_in = 8;", "n_in = -4294967288;"),
        Edit(PARAMETERS, "n_in = 8;", "n_in = 1'0;"),
        Edit(PARAMETERS, "n_in = 8;", "n_in = 0b1000;"),
        Edit(TOP, "layer9_out[3]", "layer9_out[03]"),
    ],
    "names": [
        Edit(DEFINES, "conv1_relu_table_t", "accum_t"),
        Edit(DEFINES, "conv1_relu_table_t", "conv1_t"),
        before("    dense4_t layer9_out", "    auto& layer8_out = layer7_out;\n"),
        Edit(TOP, "config9>(layer7_out,", "config9>(layer6_out,"),
        Edit(TOP, "    pool2_t layer6_out", "    pool2_t layer5_out"),
        Edit(DEFINES, "score_table_t", "wchar_t"),
        Edit(PARAMETERS, "struct config12 ", "struct config9 "),
        Edit(PARAMETERS, "typedef layer12_index index_t", "typedef layer12_index bias_t"),
    ],
    "statements": [
        Edit(TOP, LAST, LAST.replace(";\n", "; layer14_out[0] = 0;\n")),
        after(LAST, LAST),
        Edit(TOP, LAST, ""),
        before(LAST, "    if (1)\n"),
        before(LAST, "    static output_t kept;\n"),
        after(LAST, "    return;\n"),
        after(LAST, LOOP),
        Edit(TOP, "events, layer3_out, w3", "events + 1, layer3_out, w3"),
    ],
    "types": [
        Edit(DEFINES, "ap_fixed<18,12> conv1_accum_t", "float conv1_accum_t"),
        Edit(DEFINES, "ap_fixed<18,12> conv1_accum_t", "ap_fixed<17,12> conv1_accum_t"),
        Edit(DEFINES, "ap_fixed<18,12> conv1_accum_t", "ap_fixed<18,12,AP_TRN> conv1_accum_t"),
        Edit(DEFINES, "AP_RND_CONV,AP_SAT,0> layer5_t", "AP_RND_CONV,AP_SAT,1> layer5_t"),
        Edit(DEFINES, "AP_RND_CONV,AP_SAT,0> layer5_t", "AP_RND,AP_SAT,0> layer5_t"),
        Edit(DEFINES, "typedef ap_int<11> events_t", "typedef ap_int<12> events_t"),
        Edit(DEFINES, "AP_SAT,0>, 2> layer5_t", "AP_SAT,0>, 1> layer5_t", "stream"),
        Edit(PARAMETERS, "    typedef dense4_accum_t accum_t;\n", ""),
        Edit(PARAMETERS, "    typedef conv1_accum_t accum_t;\n", ""),
        Edit(DEFINES, "typedef ap_int<11> events_t", "typedef volatile ap_int<11> events_t"),
    ],
    "templates": [
        Edit(PARAMETERS, "product::mult<x_T, y_T>", "product::mult<y_T, x_T>"),
        Edit(PARAMETERS, "product::mult<x_T, y_T>", "product::both_binary<x_T, y_T>"),
        Edit(PARAMETERS, "nnet::DenseLatency<data_T", "nnet::DenseResource_rf_leq_nin<data_T"),
        Edit(PARAMETERS, "using kernel", "using kernal"),
        Edit(PARAMETERS, "nnet::DenseLatency<data_T", "nnet::DepthwiseDenseLatency<data_T"),
        Edit(PARAMETERS, "rf_leq_nin<data_T", "rf_gt_nin<data_T", "resource"),
        Edit(PARAMETERS, "nnet::FillConv2DBuffer", "nnet::FillConv1DBuffer", "stream"),
        Edit(PARAMETERS, "fill_buffer_3<data_T", "nnet::FillConv2DBuffer<data_T"),
        Edit(TOP, "dense<layer7_t, dense4_t, config9>", "dense<layer7_t, dense4_t, config12>"),
        Edit(TOP, "relu<conv1_t, layer5_t,", "relu<layer5_t, conv1_t,"),
        Edit(TOP, "nnet::relu<conv1_t", "std::relu<conv1_t"),
    ],
    "pragmas": [
        Edit(TOP, "#pragma HLS PIPELINE", "#pragma HLS DATAFLOW"),
        Edit(TOP, "#pragma HLS PIPELINE", "#pragma HLS PIPELINE II=2"),
        Edit(TOP, "INTERFACE ap_vld", "INTERFACE ap_none"),
        Edit(TOP, "RESHAPE variable=events complete", "RESHAPE variable=events cyclic"),
        Edit(TOP, "PARTITION variable=layer3_out complete dim=0", "PARTITION variable=layer3_out"),
        Edit(TOP, "variable=layer9_out depth=1", "variable=layer9_out depth=2", "stream"),
        Edit(GENERATED, "#pragma HLS INLINE", "#pragma HLS INLINE off", "adders"),
        Edit(TOP, "    #pragma HLS DATAFLOW\n", "", "resource"),
    ],
    "files": [
        Edit("firmware/weights/w99.h", "", "int w99;\n"),
        Edit("firmware/nnet_utils/cmath", "", "#define max min\n"),
        Edit("hls4ml_config.yml", "Backend: Vitis", "Backend: Vivado"),
        Edit("project.tcl", "set clock_period 5", "set clock_period 50"),
        Edit("build_opt.tcl", "fifo_opt   0", "fifo_opt   [exec sh]"),
        Edit("vivado_synth.tcl", "opt_design", "source other.tcl\nopt_design"),
        Edit("NOTICE", "Apache", "No"),
        Edit("tb_data/outputs.dat", "\n1", "\n2"),
        Edit("l1kd.json", '"reuse": 1', '"reuse": 1.0'),
        Edit("l1kd.json", '"strategy": "latency"', '"strategy": "resource"'),
        Edit("l1kd_small_version.cpp", "l1kd_small.cpp", "l1kd_other.cpp"),
        Edit("build_lib.sh", "CC=g++", "CC=g++ -Dw9=w3"),
    ],
    "weights and generated code": [
        Edit("firmware/weights/w9.h", "w9[24]", "w9[25]"),
        Edit("firmware/weights/b9.h", "{-", "{"),
        Edit("firmware/weights/b9.h", "b9[3] = {", "b9[3] = {0.5*"),
        Edit("firmware/weights/b9.h", "dense4_bias_t b9", "static dense4_bias_t b9"),
        Edit(GENERATED, "buffer[0][1] = data[1];", "buffer[0][1] = data[2];"),
        Edit(GENERATED, "buffer[0][1] = data[1];", "buffer[0][1] = data[1] + 0;"),
        Edit(GENERATED, "buffer[0][1] = data[1];", "buffer[0][0] = data[1];"),
        Edit(GENERATED, "if (partition == 0)", "if (partition != 1)"),
        Edit(GENERATED, "v8 = v5 - v6", "v8 = v5 + v6", "adders"),
        Edit(GENERATED, "bit_shift<-6>", "bit_shift<-5>", "adders"),
        Edit(GENERATED, "ap_ufixed<4,1>(1.875)", "ap_ufixed<2,1>(1.875)", "adders"),
    ],
}
# They change no value of any event on any compiler, and no more hardware than a table's size.
HARMLESS = [
    Edit(PARAMETERS, "table_size = 262144", "table_size = 1024"),
    Edit(PARAMETERS, "scale_index_regular", "scale_index_unscaled"),
    Edit(DEFINES, "ap_fixed<18,8> score_table_t", "ap_fixed<8,8> score_table_t"),
    Edit(DEFINES, "ap_fixed<18,12> conv1_accum_t", "ap_fixed<19,13> conv1_accum_t"),
    Edit(DEFINES, "#include", "\n\n#include"),
    Edit(LIBRARY, '#include "nnet_utils/nnet_dense.h"\n', ""),  # does not compile
]
EDITS = [*TRIED, *(edit for edits in FURTHER.values() for edit in edits)]


@pytest.fixture(scope="module")
def texts(projects: Projects) -> dict[str, dict[str, bytes]]:
    """The files of a project of every kind that is edited."""
    return {kind: contents(projects[kind].directory) for kind in KINDS if kind in USED}


USED = {edit.kind for edit in EDITS}


def judged(
    edit: Edit, texts: dict[str, dict[str, bytes]], projects: Projects
) -> tuple[Certificate, str]:
    """The certificate of an edited project, without running anything; and the edited line."""
    files, project = texts[edit.kind], projects[edit.kind]
    text, old = files.get(edit.file, b"").decode(), edit.old
    old = old.replace("@NAMESPACE@", project.description.namespace)
    assert old in text and (old or not text), edit
    place, changed = text.index(old), text.replace(old, edit.new, -1 if "_H_" in old else 1)
    line = changed.count("\n", 0, place) + 1
    edited = {**files, edit.file: changed.encode()}
    return follow(edited, projects.exact, project.description).certificate, f"{line}"


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.label)
def test_it_is_refused(edit: Edit, texts: dict[str, dict[str, bytes]], projects: Projects) -> None:
    certificate, _ = judged(edit, texts, projects)
    assert not certificate.certified
    # What has no rule is open: `verify` refuses whatever is not certified.
    assert certificate.refused or re.search("leaky|FillConv", edit.new)


@pytest.mark.parametrize("edit", HARMLESS, ids=lambda edit: edit.label)
def test_what_changes_nothing_may_pass(
    edit: Edit, texts: dict[str, dict[str, bytes]], projects: Projects
) -> None:
    certificate, _ = judged(edit, texts, projects)
    assert certificate.certified, certificate.summary


def test_there_are_sixty_more_in_ten_kinds() -> None:
    assert len(FURTHER) == 10 and sum(map(len, FURTHER.values())) >= 60
    assert min(map(len, FURTHER.values())) >= 6


def test_a_line_of_no_form_is_named(texts: dict[str, dict[str, bytes]], projects: Projects) -> None:
    """File and line, for a reader who has to find it."""
    for edit in (TRIED[0], TRIED[6], FURTHER["numbers"][0], FURTHER["characters"][2]):
        certificate, line = judged(edit, texts, projects)
        name = edit.file.removeprefix("firmware/")
        first = certificate.refused[0].reason
        assert first.startswith(f"{name}:") and "not in the C++ subset" in first
        found = re.match(rf"{re.escape(name)}:(\d+): ", first)
        assert found and 0 <= int(found[1]) - int(line) <= 1


def test_names_are_free_but_for_what_they_could_hide() -> None:
    """A layer of someone's network is called `inputs_`; nothing is called twice."""
    lines, program = Lines({"firmware/x.h": b"a\n"}, "x.h"), Program("top", "space")
    lines.take("a")
    assert program.named("inputs__t", lines) == "inputs__t"
    for name in ("inputs__t", "accum_t", "ap_fixed_t", "int", "K"):
        with pytest.raises(Unreadable, match=r"x\.h:1: 'a' is not in the C\+\+ subset"):
            program.named(name, lines)


def other(project: Project, **values: object) -> Project:
    record = project.record.model_copy(update=values)
    return replace(project, description=project.description.model_copy(update={"record": record}))


def test_what_the_record_claims_is_checked(
    texts: dict[str, dict[str, bytes]], projects: Projects
) -> None:
    """Another backend, another version, a narrower port: the files and the network decide."""
    project, exact, files = projects["latency"], projects.exact, texts["latency"]
    assert follow(files, exact, other(project, backend="Vivado").description).certificate.refused
    assert follow(files, exact, other(project, strategy="resource").description).certificate.refused
    assert follow(files, exact, other(project, reuse=3).description).certificate.refused
    versions = project.description.model_copy(update={"versions": {"hls4ml": "1.2.0"}})
    old = follow(files, exact, versions).certificate
    assert not old.certified and not old.refused
    told = project.description.model_copy(update={"interval_cycles": None})
    text = json.dumps(told.model_dump(mode="json"), indent=1) + "\n"
    assert follow({**files, "l1kd.json": text.encode()}, exact, told).certificate.refused
    narrow = FixedPoint(10, 10, False)
    port = project.description.input.model_copy(update={"type": narrow.text})
    claimed = project.description.model_copy(update={"input": port})
    assert follow(files, exact.at_port(narrow), claimed).certificate.refused


@pytest.mark.parametrize(
    "name", ["firmware/extra", "firmware/nnet_utils", "network.json", "tb_data/csim_results.log"]
)
def test_links_are_refused(name: str, projects: Projects, tmp_path: Path) -> None:
    directory = tmp_path / "p"
    shutil.copytree(projects["latency"].directory, directory)
    path = directory / name
    if path.exists():
        path.rename(tmp_path / "moved")
    else:
        (tmp_path / "moved").mkdir()
    path.symlink_to(tmp_path / "moved")
    certificate = certify(replace(projects["latency"], directory=directory), projects.exact)
    assert f"{name} is no plain file" in certificate.refused[0].reason


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_compiler_reads_the_reader_s_text(kind: str, projects: Projects) -> None:
    """As g++ compiles a project, and with the macros of the vendors' front ends."""
    project = projects[kind]
    files = contents(project.directory)
    library = known(project.record.backend, "1.3.0")
    assert library is not None
    names = project.record.top, project.description.namespace
    program = read_program(files, *names, library)
    assert misread(files, program) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("nnet_utils/nnet_common.h", b"#define NNET_COMMON_H_", b"#define layer9_out layer7_out"),
        ("ap_types/ap_fixed.h", b"#include", b"#if __SYNTHESIS__\n#define w9 w3\n#endif\n#include"),
        ("library.h", b"#include <array>", b"#define l1kd_small other"),
        ("nnet_utils/nnet_mult.h", b"#define NNET_MULT_H_", b"#define n_in n_out"),
    ],
)  # fmt: skip
def test_a_compiler_that_reads_another_text_is_noticed(
    name: str, old: bytes, new: bytes, projects: Projects
) -> None:
    """Also one whose pinned headers would do it."""
    project = projects["latency"]
    files = contents(project.directory)
    library = known("Vitis", "1.3.0")
    assert library is not None
    names = project.record.top, project.description.namespace
    program = read_program(files, *names, library)
    path = f"firmware/{name}"
    assert old in files[path]
    assert misread({**files, path: files[path].replace(old, new, 1)}, program)


def extremes_of(projects: Projects) -> Iterator[tuple[Dense | Conv, Bound, np.ndarray]]:
    network = projects.exact
    for node in network.nodes:
        if isinstance(node, Dense | Conv):
            bound = network.bounds[node.sources[0]]
            for (events,) in extremes(node, bound):
                yield node, bound, events


def test_trials_reach_both_ends_of_every_sum(projects: Projects) -> None:
    """Of every output of every matrix, also of the windows of a convolution."""
    network = projects.exact
    ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for node, bound, events in extremes_of(projects):
        assert (events >= bound.low).all() and (events <= bound.high).all()
        found = network.step(node, [events.astype(np.int64)])
        low, high = found.min(axis=0), found.max(axis=0)
        if node.name in ends:
            low, high = np.minimum(low, ends[node.name][0]), np.maximum(high, ends[node.name][1])
        ends[node.name] = low, high
    assert len(ends) == 3
    for name, (low, high) in ends.items():
        assert (low == network.bounds[name].low).all() and (high == network.bounds[name].high).all()
