"""Times convnet.h, PyTorch and ONNX Runtime in turn, A B A B, on the same networks, batches and threads.

First the results are compared: all three must compute the same outputs from the same weights. Then each
round runs every system once; a ratio is taken within a round, and the median and range of the rounds'
ratios are printed. PyTorch runs in its default and in its channels_last layout, and compiled if that works
here; the fastest of its medians is the one we are compared with. ONNX Runtime runs with all graph optimisations.

Usage: peers.py OURS [--networks base,revised] [--threads 1,2] [--rounds 15] [--json FILE]
OURS is the program made from ours.c."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from safetensors.torch import load_file

CONVS = {"base": [16, 32], "revised": [64, 96, 112]}
DENSE = {"base": [128, 50, 10], "revised": [150, 70, 10]}
DROPOUT = {"base": 0.5, "revised": 0.1}


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("our side stopped at: " + command)
        return answer.strip()


def torch_network(name, weights):
    """The same network in PyTorch, with our weights: tensors have PyTorch's names and shapes."""
    layers, channels, side = [], 1, 28
    for number, filters in enumerate(CONVS[name], 1):
        conv = torch.nn.Conv2d(channels, filters, 3, padding=1)
        conv.load_state_dict({"weight": weights[f"conv{number}.weight"], "bias": weights[f"conv{number}.bias"]})
        layers += [conv, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        channels, side = filters, side // 2
    layers.append(torch.nn.Flatten())
    inputs = channels * side * side
    for number, outputs in enumerate(DENSE[name], 1):
        dense = torch.nn.Linear(inputs, outputs)
        dense.load_state_dict({"weight": weights[f"dense{number}.weight"], "bias": weights[f"dense{number}.bias"]})
        layers.append(dense)
        if number < len(DENSE[name]):
            layers.append(torch.nn.ReLU())
        if number == 1:
            layers.append(torch.nn.Dropout(DROPOUT[name]))
        inputs = outputs
    return torch.nn.Sequential(*layers)


def onnx_session(name, weights, batch, threads):
    """The same network for ONNX Runtime, with a fixed batch size; None where it is not installed."""
    try:
        import onnx
        import onnxruntime
        from onnx import helper, numpy_helper
    except ImportError:
        return None
    nodes, initializers, current = [], [], "input"

    def constant(tensor_name):
        initializers.append(numpy_helper.from_array(weights[tensor_name].numpy(), tensor_name))
        return tensor_name

    def add(kind, inputs, **attributes):
        output = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    for number in range(1, len(CONVS[name]) + 1):
        current = add("Conv", [current, constant(f"conv{number}.weight"), constant(f"conv{number}.bias")],
                      kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        current = add("Relu", [current])
        current = add("MaxPool", [current], kernel_shape=[2, 2], strides=[2, 2])
    current = add("Flatten", [current])
    for number in range(1, len(DENSE[name]) + 1):
        current = add("Gemm", [current, constant(f"dense{number}.weight"), constant(f"dense{number}.bias")], transB=1)
        if number < len(DENSE[name]):
            current = add("Relu", [current])
    current = add("Softmax", [current], axis=1)
    info = onnx.TensorProto.FLOAT
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("input", info, [batch, 1, 28, 28])],
                              [helper.make_tensor_value_info(current, info, [batch, 10])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def torch_inference(network, images):
    network.eval()

    def run(count):
        with torch.inference_mode():
            start = time.perf_counter()
            for _ in range(count):
                network(images)
            return time.perf_counter() - start
    return run


def torch_training(network, images, labels):
    network.train()
    optimizer, loss = torch.optim.Adam(network.parameters()), torch.nn.CrossEntropyLoss()

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad()
            loss(network(images), labels).backward()
            optimizer.step()
        return time.perf_counter() - start
    return run


def onnx_inference(session, images):
    binding = session.io_binding()
    binding.bind_cpu_input("input", images)
    binding.bind_output(session.get_outputs()[0].name)

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            session.run_with_iobinding(binding)
        return time.perf_counter() - start
    return run


def compiled(make):
    """A compiled variant, or None where no compiler for it is to be had."""
    try:
        run = make()
        run(2)
        return run
    except Exception as error:  # whatever the compiler's tool chain raises
        print("  (torch.compile does not work here: %s)" % str(error).splitlines()[0][:90], file=sys.stderr)
        return None


def runs_for(seconds_each, budget=0.1):
    return max(1, int(budget / max(seconds_each, 1e-7)))


def compare(systems, rounds):
    """systems: name -> run(count). Seconds per run, round by round, in turn."""
    counts = {}
    for name, run in systems.items():
        run(2)
        counts[name] = runs_for(run(3) / 3)
    times = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            times[name].append(run(counts[name]) / counts[name])
    return times


def report(title, batch, times, results):
    ours = times.pop("ours")
    print("%s: ours %.0f images/s" % (title, batch / statistics.median(ours)))
    row = {"case": title, "ours": batch / statistics.median(ours), "peers": {}}
    for name, theirs in times.items():
        ratios = sorted(t / o for t, o in zip(theirs, ours))
        row["peers"][name] = {"images_per_second": batch / statistics.median(theirs), "ratio": statistics.median(ratios),
                              "low": ratios[0], "high": ratios[-1]}
        print("    %-24s %9.0f images/s   ours is %5.2f times as fast (%.2f to %.2f)"
              % (name, batch / statistics.median(theirs), statistics.median(ratios), ratios[0], ratios[-1]))
    for system in ("PyTorch", "ONNX Runtime"):
        best = [peer["ratio"] for name, peer in row["peers"].items() if name.startswith(system)]
        if best:
            print("    against the best of %s: %.2f" % (system, min(best)))
            row["against " + system] = min(best)
    sys.stdout.flush()
    results.append(row)


def check(name, got, expected):
    distance = numpy.abs(got - expected).max()
    if not distance < 1e-5:
        sys.exit("%s computes something else: largest difference %g" % (name, distance))


def run_case(ours, network_name, batch, threads, rounds, results):
    torch.set_num_threads(threads)
    folder = tempfile.mkdtemp()
    isa = ours.ask("open %s %d %d %s" % (network_name, batch, threads, folder))
    weights = load_file(os.path.join(folder, "weights.safetensors"))
    images = torch.from_numpy(numpy.fromfile(os.path.join(folder, "inputs.f32"), "<f4").reshape(batch, 1, 28, 28))
    expected = numpy.fromfile(os.path.join(folder, "outputs.f32"), "<f4").reshape(batch, 10)
    last = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))

    def fresh(channels_last=False):
        network = torch_network(network_name, weights)
        return network.to(memory_format=torch.channels_last) if channels_last else network

    with torch.inference_mode():
        check("PyTorch", torch.softmax(fresh().eval()(images), 1).numpy(), expected)
    systems = {"ours": lambda n: float(ours.ask("predict %d" % n)),
               "PyTorch": torch_inference(fresh(), images),
               "PyTorch channels_last": torch_inference(fresh(True), last),
               "PyTorch compiled": compiled(lambda: torch_inference(torch.compile(fresh(), dynamic=False), images))}
    session = onnx_session(network_name, weights, batch, threads)
    if session:
        check("ONNX Runtime", session.run(None, {"input": images.numpy()})[0], expected)
        systems["ONNX Runtime"] = onnx_inference(session, images.numpy())
    title = "%s, batch %d, %d thread%s, %s" % (network_name, batch, threads, "s" * (threads > 1), isa)
    report("inference " + title, batch, compare({k: v for k, v in systems.items() if v}, rounds), results)
    if batch == 1:
        return
    systems = {"ours": lambda n: float(ours.ask("train %d" % n)),
               "PyTorch": torch_training(fresh(), images, labels),
               "PyTorch channels_last": torch_training(fresh(True), last, labels),
               "PyTorch compiled": compiled(lambda: torch_training(torch.compile(fresh(), dynamic=False), images, labels))}
    report("training " + title, batch, compare({k: v for k, v in systems.items() if v}, rounds), results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("--networks", default="base,revised")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batches", default="200,1")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    options = parser.parse_args()
    results = []
    for threads in map(int, options.threads.split(",")):
        for network in options.networks.split(","):
            for batch in map(int, options.batches.split(",")):
                run_case(Ours(options.ours), network, batch, threads, options.rounds, results)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    print(json.dumps({row["case"]: {k: round(v, 2) for k, v in row.items() if k.startswith("against")} for row in results}))


if __name__ == "__main__":
    main()
